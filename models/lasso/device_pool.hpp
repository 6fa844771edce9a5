// Problems that run side by side on a device by the working-set method, each in a place with room for so many atoms.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/kernels/working_set/working_set.hpp>
#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/working_set.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// A pool of places of one size. A problem's bits do not depend on the others, on the size or on the number of places.
class DevicePool {
 public:
  using Problem = WorkingSetBatch::Problem;

  /// @param fraction  of lambda_max, for problems whose lambda is not known
  /// Allocates all that it ever needs. @throws OutOfMemory
  DevicePool(const Context& context, const Dictionary& dictionary, const LassoOptions& options, double fraction,
             std::int64_t capacity, std::int64_t places);
  /// Bytes of all that on the device.
  static std::int64_t bytes(std::int64_t rows, std::int64_t atoms, std::int64_t capacity, std::int64_t places);

  std::int64_t running() const { return static_cast<std::int64_t>(running_.size()); }
  std::int64_t room() const { return static_cast<std::int64_t>(free_.size()); }

  /// Takes in problems. @param X [n, count <= room()] on the host  @param lambda [count] in the user's units, negative where
  /// it is a fraction of lambda_max
  void admit(MatrixView<const double> X, const std::vector<Problem>& problems, const std::vector<double>& lambda);

  /// A round of all that run. What has come to an end leaves: problems that are done or stuck are appended to `retired`, with
  /// their codes in the user's units to `codes`; those that want a larger place to `outgrown`, with their observations in the
  /// user's units to `observations`.
  void round(std::vector<Problem>& retired, SparseCodes& codes, std::vector<Problem>& outgrown,
             std::vector<double>& observations);

 private:
  void lay_out(Arena& arena, std::int64_t rows, std::int64_t atoms, std::int64_t capacity, std::int64_t places);
  void launch_round();
  void collect(const std::vector<std::int32_t>& done, SparseCodes& codes);

  const Context& context_;
  const Dictionary& dictionary_;
  const DeviceWorkingSetDictionary& parts_;
  Profile* const profile_;
  LookRules rules_;
  Arena arena_;
  ActiveSets sets_;
  WorkingSetProblems problems_;
  HalfColumns residuals_;
  MatrixView<std::uint32_t> keys_;  // [panels, places]
  VectorView<std::int32_t> list_;   // [places] those that run
  VectorView<double> given_;        // [places] lambda on its way in
  MatrixView<double> incoming_;     // [n, places] observations on their way in
  Tensor<std::int64_t> offsets_;    // of codes on their way out
  Tensor<std::int32_t> indices_;
  Tensor<double> values_;
  std::vector<std::int32_t> running_, free_;  // places
  std::vector<Problem> known_;                // [places]
  std::vector<double> numbers_;               // as in problems_, on the host
  std::vector<std::int32_t> counts_;
};

}  // namespace shrinkwarp
