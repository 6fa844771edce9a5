// What momentum networks take with activations recomputed and with activations stored, beside a plain residual network and the
// dense products that all of them are made of.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <shrinkwarp/models/momentum/momentum_net.hpp>
#include <shrinkwarp/models/resnet/layer.hpp>
#include <shrinkwarp/models/resnet/parameters.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/tools/bench/beside_products.hpp>

namespace shrinkwarp::bench {

/// Layers' branches are W2 tanh(W1 x + b1) + b2, each with weights of its own, in float.
struct MomentumBenchOptions {
  std::int64_t width = 256;
  std::int64_t hidden = 512;
  std::int64_t layers = 128;
  std::int64_t batch = 1024;
  double gamma = 0.9;  ///< all ways take the fraction next to it that exact arithmetic takes
  MomentumForm form = MomentumForm::damped;
};

enum class MomentumWay {
  exact_recomputed,
  approximate_recomputed,
  approximate_stored,
  residual_stored,  ///< x <- x + f(x), with the same branches
};
inline constexpr MomentumWay kMomentumWays[] = {MomentumWay::exact_recomputed, MomentumWay::approximate_recomputed,
                                                MomentumWay::approximate_stored, MomentumWay::residual_stored};
/// "exact-recomputed" and so on.
const char* name_of(MomentumWay way);
constexpr bool is_stored(MomentumWay way) {
  return way == MomentumWay::approximate_stored || way == MomentumWay::residual_stored;
}

enum class MomentumPass {
  forward,   ///< nothing is kept for a way back
  training,  ///< gradients zeroed, forward, and from a given gradient of the output back to those of input and weights
};
/// "forward" or "training".
const char* name_of(MomentumPass pass);

/// Bytes of activations that a step of training has, weights and their gradients apart.
struct ActivationBytes {
  std::int64_t kept = 0;     ///< from the forward pass to the way back
  std::int64_t scratch = 0;  ///< meanwhile
  std::int64_t peak() const { return kept + scratch; }
};

/// How far a way's results are off, by the largest of what is wanted.
struct MomentumErrors {
  double inverse = 0;   ///< x and v where the way back has come to, of momentum networks
  double gradient = 0;  ///< of the weights, from those of stored activations, of momentum networks
};

/// One network in all ways, with all memory allocated once.
class MomentumBench {
 public:
  /// @throws what MomentumNet throws
  MomentumBench(const Context& context, const MomentumBenchOptions& options, const std::vector<MomentumWay>& ways);

  /// One run. The first of each is to warm up.
  CallTime time(MomentumWay way, MomentumPass pass);
  /// The same products by `gemm`, each with the whole batch in one call. Of each kind 8 are timed.
  CallTime time_products(MomentumWay way, MomentumPass pass) const;
  /// Of the dense products of a pass.
  double flops(MomentumWay way, MomentumPass pass) const;
  ActivationBytes bytes(MomentumWay way) const;
  const MomentumBenchOptions& options() const { return options_; }  ///< with gamma as it is taken
  /// Goes the way there and back again, and compares. Refuses exact arithmetic that does not come back to the last bit, and
  /// gradients of it that differ from those of stored activations by more than rounding. @throws Error, RangeError
  MomentumErrors check(MomentumWay way);
  /// Writes what somebody else needs to run the same networks, row-major: the weights layers.T.0.weight and so on, X and dY
  /// [batch, width], and of each way WAY.Y, WAY.dX and WAY.gradient.WEIGHT. @throws IoError
  void save(const std::string& path);

 private:
  struct Entry {
    MomentumWay way;
    LayerPointer<float> layer;
    std::shared_ptr<MomentumNet<float>> stage;  // the same; none of a residual network
  };
  std::vector<LayerPointer<float>> make_branches();
  std::vector<Entry> make_entries(const std::vector<MomentumWay>& ways);
  const Entry& entry(MomentumWay way) const;
  Pass<float> pass() const;
  void run(MomentumWay way, MomentumPass pass);
  std::vector<float> on_host(const Tensor<float>& tensor) const;

  const Context& context_;
  MomentumBenchOptions options_;
  ParameterList list_;
  std::vector<LayerPointer<float>> branches_;
  std::vector<Entry> entries_;
  ParameterValues<float> values_;
  Tensor<float> gradient_, X_, Y_, dY_, dX_;
  Tensor<std::int32_t> status_;
  Tensor<std::byte> kept_, scratch_;
  ProductTimer<float> timer_;
};

}  // namespace shrinkwarp::bench
