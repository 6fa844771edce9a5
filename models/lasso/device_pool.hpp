// Problems that run side by side on a device by the working-set method, each in a place with room for so many atoms.
#pragma once

#include <cstdint>
#include <vector>

#include <shrinkwarp/kernels/group_set/group_set.hpp>
#include <shrinkwarp/kernels/group_set/group_sets.hpp>
#include <shrinkwarp/kernels/working_set/working_set.hpp>
#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/lasso.hpp>
#include <shrinkwarp/models/lasso/working_set.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/pinned.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

/// A penalty as kernels on a device see it, in the batch's units; for all pools.
class DevicePenalty {
 public:
  /// @param penalty  in the user's units, no weight is 0. Returns when it is there. @throws OutOfMemory
  DevicePenalty(const Context& context, const Dictionary& dictionary, const Penalty& penalty);
  /// Bytes of all that on the device, at most.
  static std::int64_t bytes(std::int64_t rows, std::int64_t atoms, std::int64_t group_size);
  const PenaltyView<double>& view() const { return view_; }
  /// The dictionary as passes multiply it: in groups with columns of zeros in between, see group_columns().
  const HalfColumns& half() const { return view_.grouped() ? in_groups_ : whole_; }
  HalfBounds divided() const { return divided_.view(); }
  GroupBasisView basis() const { return {vectors_.matrix(), values_.vector()}; }  ///< in groups

 private:
  const HalfColumns& whole_;
  Tensor<double> weights_;  // [m], of groups [m / s], empty for 1
  HalfColumns in_groups_;
  DividedBounds divided_;   // half() by weights
  Tensor<double> vectors_;  // [s, m]
  Tensor<double> values_;   // [m]
  PenaltyView<double> view_;
};

/// A pool of places of one size. Its work is queued on the stream of its context; only finish_round() and, where an admit()
/// came before, staging() wait. A problem's bits do not depend on the others, on the size or on the number of places.
class DevicePool {
 public:
  using Problem = WorkingSetBatch::Problem;

  /// @param penalty    options.penalty
  /// @param fraction   of lambda_max, for problems whose lambda is not known
  /// @param most_atoms  of the largest places there are: a longer initial code is not started at
  /// Allocates all that it ever needs, but for codes on their way out or in of more than some 30 atoms on average, which make
  /// their blocks grow. @throws OutOfMemory
  DevicePool(const Context& context, const Dictionary& dictionary, const LassoOptions& options,
             const DevicePenalty& penalty, double fraction, std::int64_t capacity, std::int64_t places,
             std::int64_t most_atoms);
  /// Bytes of all that on the device.
  static std::int64_t bytes(std::int64_t rows, std::int64_t atoms, std::int64_t capacity, std::int64_t places,
                            std::int64_t group_size = 1);

  std::int64_t running() const { return static_cast<std::int64_t>(running_.size()); }
  std::int64_t room() const { return static_cast<std::int64_t>(free_.size()); }

  /// [n, places] on the host, where observations are put that admit() takes.
  MatrixView<double> staging();
  /// Takes in problems, between rounds: the first columns of staging(), and their initial codes where options has some.
  /// @param problems [count <= room()]
  /// @param lambda [count] in the user's units, negative where it is a fraction of lambda_max
  void admit(const std::vector<Problem>& problems, const std::vector<double>& lambda);

  /// Queues a round of all that run, if any do.
  void begin_round();
  /// Waits for it, if there is one. What has come to an end leaves: problems that are done or stuck are appended to `retired`,
  /// with their codes in the user's units to `codes`; those that want a larger place to `outgrown`, with their observations in
  /// the user's units to `observations`.
  void finish_round(std::vector<Problem>& retired, SparseCodes& codes, std::vector<Problem>& outgrown,
                    std::vector<double>& observations);

 private:
  void lay_out(Arena& arena, std::int64_t capacity, std::int64_t places);
  void start(VectorView<const std::int32_t> list);
  void solve(VectorView<const std::int32_t> list);
  void make_room(std::int64_t entries);
  StartCodes initial_codes(const std::vector<Problem>& problems);
  void collect(const std::vector<std::int32_t>& done, SparseCodes& codes);

  const Context& context_;
  const Dictionary& dictionary_;
  const LassoOptions& options_;
  const DevicePenalty& penalty_;
  const DeviceWorkingSetDictionary& parts_;
  Profile* const profile_;
  const std::int64_t most_atoms_;
  LookRules rules_;
  Arena arena_;
  ActiveSets sets_;
  WorkingSetProblems problems_;
  HalfColumns residuals_;
  MatrixView<std::uint32_t> keys_;  // [panels, places]
  VectorView<std::int32_t> list_;   // [places] those that run
  VectorView<double> given_;        // [places] lambda on its way in
  MatrixView<double> incoming_;     // [n, places] observations on their way in
  VectorView<std::int32_t> start_;  // [places] atoms of codes on their way in
  Tensor<std::int64_t> offsets_;    // of codes on their way out or in
  Tensor<std::int32_t> indices_;
  Tensor<double> values_;
  std::vector<std::int32_t> running_, free_;  // places
  std::vector<Problem> known_;                // [places]
  bool arriving_ = false;                     // copies from staging_ may be on their way
  bool starting_ = false;                     // initial codes have come in since the last round
  bool rounding_ = false;                     // a round is on its way
  // On the host; each is written when nothing that reads it is on its way.
  PinnedMatrix<double> staging_;                                                             // [n, places]
  PinnedMatrix<double> arriving_lambda_;                                                     // [places]
  PinnedMatrix<std::int32_t> arriving_places_, arriving_start_, list_of_running_, leaving_;  // [places]
  PinnedMatrix<std::int64_t> moving_offsets_;  // as offsets_, indices_ and values_
  PinnedMatrix<std::int32_t> moving_indices_;
  PinnedMatrix<double> moving_values_;
  PinnedMatrix<double> numbers_;  // as in problems_
  PinnedMatrix<std::int32_t> counts_;
};

}  // namespace shrinkwarp
