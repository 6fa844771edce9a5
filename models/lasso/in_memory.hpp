// Observations and results in memory, as the streaming solver takes them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Observations in the caller's memory on the host, read where they lie: entry i of observation b at
/// data[b * row_stride + i * stride], in float or double. Strides count elements and may be negative. The memory must outlive this.
template <class T>
class RowSource : public ObservationSource {
 public:
  RowSource(const T* data, std::int64_t count, std::int64_t dimension, std::int64_t row_stride, std::int64_t stride,
            std::string name = "observations")
      : data_(data),
        count_(count),
        dimension_(dimension),
        row_stride_(row_stride),
        stride_(stride),
        name_(std::move(name)) {}
  std::int64_t size() const override { return count_; }
  std::int64_t dimension() const override { return dimension_; }
  std::string name() const override { return name_; }
  void read(std::int64_t first, MatrixView<double> X) override;

 private:
  const T* data_;
  std::int64_t count_, dimension_, row_stride_, stride_;
  std::string name_;
};

/// X [n, N] on the host, which must outlive this.
class MemorySource : public RowSource<double> {
 public:
  explicit MemorySource(MatrixView<const double> X) : RowSource<double>(X.data, X.cols, X.rows, X.ld, 1) {}
};

/// X [n, N] on the context's device, in float or double; both must outlive this. Reads wait for the stream, after what the caller
/// has queued there. @throws DeviceError
template <class T>
class DeviceSource : public ObservationSource {
 public:
  DeviceSource(const Context& context, MatrixView<const T> X, std::string name = "observations");
  std::int64_t size() const override { return X_.cols; }
  std::int64_t dimension() const override { return X_.rows; }
  std::string name() const override { return name_; }
  void read(std::int64_t first, MatrixView<double> X) override;

 private:
  const Context& context_;
  MatrixView<const T> X_;
  std::string name_;
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
