// The problems that one thread of a WorkingSetBatch runs side by side: what working sets of atoms and of groups share. One
// pass over the dictionary bounds the correlations of all that run; what a problem does with them is its kind's business.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <shrinkwarp/kernels/bounded_correlation/bounded_correlation.hpp>
#include <shrinkwarp/kernels/group_set/group_set.hpp>
#include <shrinkwarp/models/lasso/working_set.hpp>
#include <shrinkwarp/runtime/function_ref.hpp>
#include <shrinkwarp/runtime/profile.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {

class WorkingSetPool {
 public:
  using Problem = WorkingSetBatch::Problem;
  using LambdaOf = FunctionRef<double(std::int64_t, double)>;

  virtual ~WorkingSetPool() = default;
  /// Bytes but for what a kind has, at most.
  static std::int64_t bytes(std::int64_t rows, std::int64_t atoms, std::int64_t places);

  std::int64_t running() const { return static_cast<std::int64_t>(running_.size()); }
  bool has_room() const { return !idle_.empty() && running() < wide_; }
  /// Problems are solved one by one, without passes: the dictionary is small.
  bool small() const { return parts.transposed.size() > 0; }
  /// A problem comes in, with the code 0; there is room. @param x  [rows], in the user's units
  void fill(const double* x, std::int64_t rows, const Problem& problem);
  /// Every problem that runs has had its step since the last pass.
  bool pass_is_due() const { return passed_ == 0; }
  /// Bounds the correlations of all that run.
  void pass(LambdaOf lambda_of);
  /// What follows from the pass for each problem, until `stop` says so: the others come next time.
  void step(FunctionRef<bool()> stop, LambdaOf lambda_of);
  /// Where small(): the problems that run, to their end.
  void solve_small(LambdaOf lambda_of);
  /// Problems that are done, or stuck, since the last call, and their codes in the user's units, are appended.
  void retire(std::vector<Problem>& problems, SparseCodes& codes);
  const Profile& profile() const { return profile_; }

 protected:
  /// A problem and its place.
  struct Slot {
    virtual ~Slot() = default;
    Problem problem;
    Tensor<double> x, r;                // [n padded]
    Tensor<double> told;                // the residual of the last pass
    std::vector<std::uint64_t> in_set;  // a bit an atom, or a group
    std::int64_t idle = 0;              // rounds without a new member of the working set
    bool waits_for_start = false;       // lambda has to be known before it starts at its initial code
    std::int64_t place = 0;             // of the residual in passes
    double reach = 0;                   // what many atoms are still over, in the look before; 0 where that is not known
    bool has_passed = false;            // since it came in
    bool wants_all = false;             // no panel is to be left out
    double magnitude = 0;               // ||z||_1
    double weighted = 0;                // the penalty of z over lambda, without the ridge's share
    double squares = 0;                 // ||z||^2, where there is a ridge

    bool holds(std::int32_t j) const { return (in_set[static_cast<std::size_t>(j / 64)] >> (j % 64) & 1U) != 0; }
    void mark(std::int32_t j) { in_set[static_cast<std::size_t>(j / 64)] |= std::uint64_t{1} << (j % 64); }
  };
  struct Certificate {
    double primal = 0, gap = 0;
  };

  // While more are over their threshold than this for sure, the certificate is not worth its products.
  static constexpr std::int64_t kFewViolators = 4;
  // Float64 looks at what may pass this share of lambda: near the solution the largest correlation is a little under or over
  // lambda, and the best scale of the certificate wants it exactly.
  static constexpr double kLookFrom = 0.999;
  // Rounds without a new member of the set after which the method is at its end.
  static constexpr std::int64_t kIdleRounds = 2;
  // Passes bound correlations in float, whose absolute rounding is far under this; what is over a smaller lambda they might
  // take for nothing.
  static constexpr double kSmallestLambda = 1e-30;

  /// @param penalty  in the batch's units, no weight is 0
  /// @param bounds   divided by the weights
  /// @param places   problems side by side
  /// @param leaves_panels_out  what the kind of pool looks at after a pass is over kLookFrom lambda
  WorkingSetPool(const Dictionary& dictionary, const WorkingSetDictionary& parts, const LassoOptions& options,
                 const Penalty& penalty, const AtomBounds& bounds, std::int64_t places, bool leaves_panels_out);
  /// Makes room for a problem; for the constructor of a kind, which makes a slot for each place.
  void make_place(Slot& slot);

  /// A problem has come in: its working set is empty.
  virtual void empty_set(Slot& slot) = 0;
  /// Its pass has run. @return it has left
  virtual bool take_step(Slot& slot, LambdaOf lambda_of) = 0;
  /// Where small(): problems have come in and will be solved in this order.
  virtual void begin_whole(const std::vector<Slot*>& slots) = 0;
  /// Where small(): one of them from beginning to end. @param which  of slots
  virtual void solve_whole(Slot& slot, std::size_t which, LambdaOf lambda_of) = 0;

  bool cancelled() const { return cancel && cancel->cancelled(); }
  MatrixView<const double> exact_columns() const { return parts.exact_columns; }
  const float* correlations(std::int64_t place) const { return C.matrix().column(place); }
  double weight(std::int64_t j) const { return penalty.weight_of(static_cast<std::int32_t>(j)); }
  /// What an active set compares a correlation with; not 0, so that an infinite weight leaves its atom out where lambda is 0.
  static double threshold(double lambda, double weight);
  void set_lambda(Problem& problem, double lambda_max, LambdaOf lambda_of) const;
  /// r = x - D z of the first `count` atoms of `list` with `values`.
  void subtract(Slot& slot, std::int64_t count);
  /// @param correlation  the largest, as it is compared with lambda
  Certificate certificate(const Slot& slot, double correlation) const;
  bool better_than_nothing(const Slot& slot) const;
  void forget_code(Slot& slot) const;
  /// How far a correlation may pass its threshold, relative to it, for a fifth of the gap that is wanted.
  double inner_tolerance(const Slot& slot, double least) const;
  /// The initial code of a problem, in the batch's units: its atoms to `fresh`, distinct, and their values to `values`.
  /// @return their number; 0 where there are more than `most`
  std::int64_t initial_code(const Slot& slot, std::int64_t most);
  /// r in float, with zeros below: to float_residual.
  void round_residual(const Slot& slot);
  /// Takes a problem out with the code of the first `count` atoms of `list` and `values`.
  void leave(Slot& slot, std::int64_t count, const Certificate& found, bool stuck);

  Context context = Context::cpu(1);
  const WorkingSetDictionary& parts;
  const AtomBounds bounds;
  const Penalty& penalty;
  const bool plain;
  const SparseCodes* const initial;  // of all problems, or nullptr
  const std::int64_t m;
  const double gap;  // relative, that is wanted
  const double dictionary_scale, atom_norm;
  const std::int64_t max_passes;
  QuantizedResiduals residuals;
  Tensor<float> C, highest;        // of the pool, atoms in the order of parts.quantized
  std::vector<PanelLimit> limits;  // [places] of its last pass
  Profile* timed = nullptr;
  std::int64_t stamp = 0;  // of the last look for what has been seen

  // Scratch.
  std::vector<std::int32_t> open, list, fresh;  // [m] atoms, or groups
  std::vector<double> values;                   // [m] and some
  Tensor<float> float_residual;                 // [n padded]
  std::vector<float> float_values;              // [m]
  std::vector<double> all_correlations;         // [m padded], where the dictionary is small

 private:
  void set_known_lambda(Problem& problem, LambdaOf lambda_of) const;
  bool may_add(const PanelLimit& limit, std::int64_t place) const;
  double likely_lambda(const Problem& problem, double lambda_max, LambdaOf lambda_of) const;
  void quantize(Slot& slot, LambdaOf lambda_of);
  void arrange(LambdaOf lambda_of);
  void keep_in_cache(std::int64_t nonzeros);

  const bool leaves_panels_out_;
  const CancelToken* const cancel;
  const double typical_weight;
  Profile profile_;
  std::vector<Slot*> running_;
  std::size_t passed_ = 0;  // of running, at its end: their pass has run, and their step is due
  std::vector<Slot*> idle_;
  std::int64_t made_ = 0;                            // places
  std::int64_t wide_ = WorkingSetBatch::kPlaces;     // problems that run at once, see keep_in_cache()
  double usual_nonzeros_ = 0;                        // of the problems that have left, the last ones above all
  Tensor<double> changes_;                           // [n padded, places], of residuals since their last pass
  Tensor<std::uint8_t> stale_;                       // [panels, places], 1 where passes have left a panel out
  std::vector<QuantizedResiduals::Vector> vectors_;  // of the pass, those of one level together
  std::vector<std::int64_t> places_;                 // theirs
  std::vector<Problem> done_;                        // since the last retire()
  SparseCodes codes_;                                // of these
  std::vector<std::int64_t> atom_stamps;  // [m], where there are initial codes: the last look that had the atom
};

/// A pool of problems whose working sets are of atoms; all arguments are to stay alive.
std::unique_ptr<WorkingSetPool> make_atom_pool(const Dictionary& dictionary, const WorkingSetDictionary& parts,
                                               const LassoOptions& options, const Penalty& penalty,
                                               const AtomBounds& bounds, std::int64_t places);
/// Bytes of a problem's working set, and of what a pool has once, at most.
std::int64_t active_set_bytes(std::int64_t rows, std::int64_t atoms);
std::int64_t atom_scratch_bytes(std::int64_t rows, std::int64_t atoms);

/// The same of groups. @param basis  of them
std::unique_ptr<WorkingSetPool> make_group_pool(const Dictionary& dictionary, const WorkingSetDictionary& parts,
                                                const GroupBasis& basis, const LassoOptions& options,
                                                const Penalty& penalty, const AtomBounds& bounds, std::int64_t places);
std::int64_t group_set_bytes(std::int64_t rows, std::int64_t atoms, std::int64_t group_size);
std::int64_t group_scratch_bytes(std::int64_t rows, std::int64_t atoms, std::int64_t group_size);

}  // namespace shrinkwarp
