// Observations and results in memory, as the streaming solver takes them.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// X [n, N] on the host, which must outlive this.
class MemorySource : public ObservationSource {
 public:
  explicit MemorySource(MatrixView<const double> X) : X_(X) {}
  std::int64_t size() const override { return X_.cols; }
  std::int64_t dimension() const override { return X_.rows; }
  void read(std::int64_t first, MatrixView<double> X) override;

 private:
  MatrixView<const double> X_;
};

/// X [n, N] on the context's device, in float or double; both must outlive this. Reads wait for the stream, after what the caller
/// has queued there. @throws DeviceError
template <class T>
class DeviceSource : public ObservationSource {
 public:
  DeviceSource(const Context& context, MatrixView<const T> X);
  std::int64_t size() const override { return X_.cols; }
  std::int64_t dimension() const override { return X_.rows; }
  void read(std::int64_t first, MatrixView<double> X) override;

 private:
  const Context& context_;
  MatrixView<const T> X_;
  std::vector<T> staged_;
};

/// Collects batches as they come.
class MemorySink : public CodeSink {
 public:
  void append(const LassoBatch& batch) override;
  /// All of them as one, in the order of the observations.
  LassoBatch in_order() const;

 private:
  LassoBatch all_;
};

}  // namespace shrinkwarp
