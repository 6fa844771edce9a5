// What a learned network's forward pass and a step of its training take, beside the dense products that they are made of on
// the same context, run by run.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/io/safetensors.hpp>
#include <shrinkwarp/tools/bench/beside_products.hpp>

namespace shrinkwarp::bench {

struct NetsBenchOptions {
  std::int64_t rows = 64;
  std::int64_t atoms = 256;
  std::int64_t layers = 16;
  std::int64_t batch = 8192;     ///< problems of a pass
  double lambda_fraction = 0.1;  ///< of each problem's lambda_max
};

enum class NetPass {
  forward,
  training,  ///< loss and gradient, and where the network has matrices a step of Adam with the rate 0: each run does the same
};

/// "forward" or "training".
const char* name_of(NetPass pass);

/// The dictionary and observations that all networks of a run share: normal numbers, atoms of norm 1 over a power of two.
class NetProblems {
 public:
  NetProblems(const Context& context, const NetsBenchOptions& options);

  const NetsBenchOptions& options() const { return options_; }
  const Dictionary& dictionary() const { return dictionary_; }
  /// Column-major, on the host.
  const std::vector<double>& D() const { return D_; }            ///< [n, m], dictionary().exact()
  const std::vector<double>& X() const { return X_; }            ///< [n, N]
  const std::vector<double>& lambda() const { return lambda_; }  ///< [N]

 private:
  NetsBenchOptions options_;
  Dictionary dictionary_;
  std::vector<double> D_, X_, lambda_;
};

/// One network, before training: ISTA, with the first parameters of its kind.
class NetBench {
 public:
  virtual ~NetBench() = default;

  NetworkKind kind() const { return kind_; }  ///< lista, coupled or step
  const char* type() const { return type_; }  ///< "float32" or "float64"

  /// One run, waited for. The first is to warm up.
  virtual CallTime time(NetPass pass) = 0;
  /// The same products by `gemm` in the network's type, each with all problems in one call. Of each kind of product one is
  /// timed and counts as often as the pass makes it.
  virtual CallTime time_products(NetPass pass) = 0;
  /// Flops of the dense formulas: what the products above make.
  virtual double flops(NetPass pass) const = 0;
  /// Share of nonzeros in the codes of the last layer.
  virtual double density() = 0;
  /// Adds parameters, codes [N, m], loss and gradient, as "lista.float32.codes" and so on.
  virtual void save(Safetensors& file) = 0;

 protected:
  NetBench(NetworkKind kind, const char* type) : kind_(kind), type_(type) {}

 private:
  NetworkKind kind_;
  const char* type_;
};

/// The networks of the kinds asked for (lista and coupled in float, step in float and double).
std::vector<std::unique_ptr<NetBench>> make_net_benches(const Context& context, const NetProblems& problems,
                                                        const std::vector<NetworkKind>& kinds);

/// Writes what somebody else needs to run the same networks: D [m, n], X [N, n] and lambda [N] in float64, row-major, and what
/// each network adds. @throws IoError
void save_nets(const std::string& path, const NetProblems& problems,
               const std::vector<std::unique_ptr<NetBench>>& networks);

}  // namespace shrinkwarp::bench
