// Networks before they learn: each is the iteration that it unrolls, its file keeps it, and what it is trained on is what
// its samples say. Oracles are ISTA by other kernels, plain loops in long double, and linear algebra by hand.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <shrinkwarp/models/lasso/dictionary.hpp>
#include <shrinkwarp/models/lasso/in_memory.hpp>
#include <shrinkwarp/models/lista/analytic_weights.hpp>
#include <shrinkwarp/models/lista/evaluation.hpp>
#include <shrinkwarp/models/lista/network.hpp>
#include <shrinkwarp/models/lista/network_file.hpp>
#include <shrinkwarp/models/lista/samples.hpp>
#include <shrinkwarp/models/train/shuffle.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>

#include "tests/support/contexts.hpp"
#include "tests/support/network_problems.hpp"

namespace shrinkwarp {
namespace {

using testing::codes_of;
using testing::NetworkProblems;
using testing::normal_numbers;
using testing::to_device;
using testing::to_host;

constexpr NetworkKind kKinds[] = {NetworkKind::lista, NetworkKind::coupled, NetworkKind::step, NetworkKind::alista,
                                  NetworkKind::momentum_lista};

/// Of a network that is ISTA before it learns, whatever its kind.
NetworkSpec ista_spec(NetworkKind kind, std::int64_t layers) {
  NetworkSpec spec;
  spec.kind = kind;
  spec.layers = layers;
  spec.analytic = false;
  spec.gamma = 0;
  return spec;
}

/// What T layers in arithmetic of unit roundoff eps may be off. A layer's sums have up to n + m + 6 terms of magnitude
/// |W1||z| + |W2||x| + lambda / L, whose norm is at most what is written here as ||W1||_F <= sqrt(m) + a ||D||_F^2; steps under
/// 2 / L make nothing grow, so the errors of the layers add up. Products of float are within 2^-21 on CUDA.
template <class T>
double rounding(const NetworkProblems& problems, const std::vector<double>& steps, double largest_code) {
  const double eps = std::is_same_v<T, float> ? 0x1p-21 : 0x1p-52;
  double D = 0, x = 0, lambda = 0;
  for (const double value : problems.D) D = std::hypot(D, value);
  for (std::int64_t b = 0; b < problems.N; ++b) {
    double norm = 0;
    for (std::int64_t i = 0; i < problems.n; ++i) norm = std::hypot(norm, problems.x(i, b));
    x = std::max(x, norm);
    lambda = std::max(lambda, 2 * problems.lambda_max(b));
  }
  const double root = std::sqrt(static_cast<double>(problems.m));
  double sum = 0;
  for (const double a : steps) sum += (root + a * D * D) * largest_code + a * D * x + 2 * a * lambda * root;
  return static_cast<double>(problems.n + problems.m + 6) * eps * sum;
}

/// Problems whose dictionary has the scale 1, so that its units are the user's, with lambdas of all sizes.
struct Scaled {
  NetworkProblems problems;
  std::vector<double> lambda;

  explicit Scaled(const NetworkProblems& raw) : problems(raw.scaled(1 / scale_of(raw), 1)) {
    constexpr double kFractions[] = {0.1, 0.3, 0.5, 2};
    for (std::int64_t b = 0; b < problems.N; ++b) lambda.push_back(kFractions[b % 4] * problems.lambda_max(b));
  }
  static double scale_of(const NetworkProblems& raw) { return Dictionary(Context::cpu(1), raw.dictionary()).scale(); }
};

double largest_norm(const std::vector<double>& codes, std::int64_t m) {
  double largest = 0;
  for (std::size_t first = 0; first < codes.size(); first += static_cast<std::size_t>(m)) {
    double norm = 0;
    for (std::size_t j = 0; j < static_cast<std::size_t>(m); ++j) norm = std::hypot(norm, codes[first + j]);
    largest = std::max(largest, norm);
  }
  return largest;
}

class Networks : public testing::OnContext {
 protected:
  template <class T>
  void expect_codes(const Network<T>& network, const Scaled& scaled, const std::vector<double>& wanted,
                    const std::vector<double>& steps, double largest) const {
    const std::vector<T> found = codes_of<T>(context(), network, scaled.problems.X, scaled.lambda);
    const double tolerance = rounding<T>(scaled.problems, steps, largest);
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_NEAR(found[i], wanted[i], tolerance) << name_of(network.spec().kind) << " " << i;
      const bool over_lambda_max = i / static_cast<std::size_t>(scaled.problems.m) % 4 == 3;
      ASSERT_TRUE(!over_lambda_max || found[i] == T(0)) << found[i];
    }
  }
};
SHRINKWARP_ON_EVERY_CONTEXT(Networks);

TEST_P(Networks, AreIstaOfTheirDepthBeforeTheyLearn) {
  const Scaled scaled(NetworkProblems(7, 13, 8));
  const std::int64_t m = scaled.problems.m, N = scaled.problems.N;
  const Dictionary dictionary(context(), scaled.problems.dictionary());
  const Tensor<double> X = to_device(context(), scaled.problems.X, 7, N),
                       lambda = to_device(context(), scaled.lambda, N);
  const double step = 1 / dictionary.lipschitz(context());
  double largest = 0;
  for (const std::int64_t layers : {1, 10, 50, 100}) {
    const Tensor<double> Z(context(), m, N);
    proximal_codes(context(), dictionary, X.matrix(), lambda.vector(), layers, Momentum::none, Z.matrix());
    const std::vector<double> wanted = to_host(context(), Z);
    largest = std::max(largest, largest_norm(wanted, m));
    const std::vector<double> steps(static_cast<std::size_t>(layers), step);
    for (const NetworkKind kind : kKinds) {
      const NetworkSpec spec = ista_spec(kind, layers);
      expect_codes<double>(*make_network<double>(context(), dictionary, spec), scaled, wanted, steps, largest);
      expect_codes<float>(*make_network<float>(context(), dictionary, spec), scaled, wanted, steps, largest);
      // The first layers of a deeper network.
      const auto deeper = make_network<double>(context(), dictionary, ista_spec(kind, layers + 2));
      deeper->set_depth(layers);
      expect_codes<double>(*deeper, scaled, wanted, steps, largest);
    }
  }
}

/// z+ = st(z + a D'(x - D z), lambda a) in long double.
std::vector<double> step_network_codes(const Scaled& scaled, const std::vector<double>& steps) {
  const NetworkProblems& p = scaled.problems;
  std::vector<double> codes;
  for (std::int64_t b = 0; b < p.N; ++b) {
    std::vector<long double> z(static_cast<std::size_t>(p.m));
    for (const long double a : steps) {
      std::vector<long double> r(static_cast<std::size_t>(p.n));
      for (std::int64_t i = 0; i < p.n; ++i) {
        r[static_cast<std::size_t>(i)] = p.x(i, b);
        for (std::int64_t j = 0; j < p.m; ++j)
          r[static_cast<std::size_t>(i)] -= p.d(i, j) * z[static_cast<std::size_t>(j)];
      }
      for (std::int64_t j = 0; j < p.m; ++j) {
        long double u = z[static_cast<std::size_t>(j)];
        for (std::int64_t i = 0; i < p.n; ++i) u += a * p.d(i, j) * r[static_cast<std::size_t>(i)];
        const long double size = std::fabs(u) - a * scaled.lambda[static_cast<std::size_t>(b)];
        z[static_cast<std::size_t>(j)] = size > 0 ? std::copysign(size, u) : 0;
      }
    }
    codes.insert(codes.end(), z.begin(), z.end());
  }
  return codes;
}

TEST_P(Networks, BecomeStepNetworks) {
  const Scaled scaled(NetworkProblems(7, 13, 8, 1));
  const Dictionary dictionary(context(), scaled.problems.dictionary());
  const double L = dictionary.lipschitz(context());
  const std::vector<double> steps{0.5 / L, 1.9 / L, 1 / L, 1.4 / L};
  const std::vector<double> wanted = step_network_codes(scaled, steps);
  double largest = 0;
  for (std::size_t t = 1; t <= steps.size(); ++t) {
    const std::vector<double> first(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(t));
    largest = std::max(largest, largest_norm(step_network_codes(scaled, first), 13));
  }
  for (const NetworkKind kind : kKinds) {
    NetworkSpec spec;  // with an analytic matrix, selected entries and momentum, all of which go
    spec.kind = kind;
    spec.layers = 4;
    spec.selection = {7, 21.5};
    const auto in_double = make_network<double>(context(), dictionary, spec);
    in_double->become_step_network(context(), dictionary, steps);
    expect_codes<double>(*in_double, scaled, wanted, steps, largest);
    const auto in_float = make_network<float>(context(), dictionary, spec);
    in_float->become_step_network(context(), dictionary, steps);
    expect_codes<float>(*in_float, scaled, wanted, steps, largest);
  }
}

TEST(NetworkSpecs, AreRefusedOutOfTheirRange) {
  const NetworkProblems problems(3, 4, 1);
  const Context host = Context::cpu(1);
  const Dictionary dictionary(host, problems.dictionary());
  const auto refuses = [&](const std::function<void(NetworkSpec&)>& change) {
    for (const NetworkKind kind : kKinds) {
      NetworkSpec spec;
      spec.kind = kind;
      change(spec);
      EXPECT_THROW(make_network<double>(host, dictionary, spec), ValueError) << name_of(kind);
    }
  };
  refuses([](NetworkSpec& spec) { spec.layers = 0; });
  refuses([](NetworkSpec& spec) { spec.gamma = 1; });
  refuses([](NetworkSpec& spec) { spec.gamma = -0.1; });
  refuses([](NetworkSpec& spec) { spec.gamma = std::nan(""); });
  NetworkSpec spec;
  spec.kind = NetworkKind::alista;
  spec.ridge = -1;
  EXPECT_THROW(make_network<double>(host, dictionary, spec), ValueError);
  for (const NetworkKind kind : kKinds) {
    spec = {};
    spec.kind = kind;
    for (const double unit : {1e-25, 1e25, 1e-160, 1e160}) {
      const NetworkProblems scaled = problems.scaled(unit, 1);
      const Dictionary its(host, scaled.dictionary());
      EXPECT_THROW(make_network<float>(host, its, spec), ValueError);
      if (unit < 1e-100 || unit > 1e100) {
        EXPECT_THROW(make_network<double>(host, its, spec), ValueError);
      } else {
        EXPECT_NO_THROW(make_network<double>(host, its, spec));
      }
    }
  }
  const auto network = make_network<double>(host, dictionary, {});
  EXPECT_THROW(network->set_depth(0), ValueError);
  EXPECT_THROW(network->set_depth(2), ValueError);
  for (const NetworkKind kind : kKinds) EXPECT_EQ(network_kind(name_of(kind)), kind);
  EXPECT_FALSE(network_kind("lstm"));
}

// ------------------------------------------------------------------------------------------------ ALISTA's matrix

using Columns = std::vector<std::vector<double>>;

Columns columns_of(const Tensor<double>& A) {
  Columns columns;
  for (std::int64_t j = 0; j < A.cols(); ++j)
    columns.emplace_back(A.matrix().column(j), A.matrix().column(j) + A.rows());
  return columns;
}
Columns columns_of(const NetworkProblems& problems) {
  Columns columns;
  for (std::int64_t j = 0; j < problems.m; ++j)
    columns.emplace_back(problems.D.data() + j * problems.n, problems.D.data() + (j + 1) * problems.n);
  return columns;
}
double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
/// w'(D D' + added I)w, the squares of a column of W'D when added is 0.
double spread(const Columns& D, const std::vector<double>& w, double added) {
  double sum = added * dot(w, w);
  for (const auto& d : D) sum += dot(w, d) * dot(w, d);
  return sum;
}

/// The solution of A x = b by elimination with pivots.
std::vector<double> solved(Columns rows, std::vector<double> b) {
  const std::size_t n = b.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t best = k;
    for (std::size_t i = k; i < n; ++i)
      if (std::fabs(rows[i][k]) > std::fabs(rows[best][k])) best = i;
    std::swap(rows[k], rows[best]);
    std::swap(b[k], b[best]);
    for (std::size_t i = k + 1; i < n; ++i) {
      const double factor = rows[i][k] / rows[k][k];
      for (std::size_t j = k; j < n; ++j) rows[i][j] -= factor * rows[k][j];
      b[i] -= factor * b[k];
    }
  }
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t j = k + 1; j < n; ++j) b[k] -= rows[k][j] * b[j];
    b[k] /= rows[k][k];
  }
  return b;
}

TEST(AnalyticWeights, SolveTheConstrainedLeastSquares) {
  const NetworkProblems problems(5, 9, 1);
  const Columns D = columns_of(problems);
  for (const double ridge : {0.0, 0.3}) {
    const Tensor<double> tensor = analytic_weights(Context::cpu(1), problems.dictionary(), ridge);
    const Columns W = columns_of(tensor);
    // ||D||_2^2 from ridges' definition: that of the solution with it, by power iterations.
    std::vector<double> v(9, 1.0);
    double norm = 0;
    for (int k = 0; k < 3000 && ridge > 0; ++k) {
      std::vector<double> image(5, 0.0);
      for (std::size_t j = 0; j < 9; ++j)
        for (std::size_t i = 0; i < 5; ++i) image[i] += v[j] * D[j][i];
      for (std::size_t j = 0; j < 9; ++j) v[j] = dot(D[j], image);
      norm = std::sqrt(dot(v, v));
      for (double& value : v) value /= norm;
    }
    const double added = ridge * norm;
    const std::vector<double> noise = normal_numbers(5 * 9, 77);
    for (std::size_t i = 0; i < 9; ++i) {
      EXPECT_NEAR(dot(W[i], D[i]), 1, 1e-13);
      // min w'(D D' + added I)w with d'w = 1: the gradient 2 (...) w is a multiple of d.
      Columns rows(6, std::vector<double>(6, 0.0));
      for (std::size_t a = 0; a < 5; ++a) {
        for (std::size_t b = 0; b < 5; ++b)
          for (const auto& d : D) rows[a][b] += d[a] * d[b];
        rows[a][a] += added;
        rows[a][5] = rows[5][a] = D[i][a];
      }
      const std::vector<double> wanted = solved(rows, {0, 0, 0, 0, 0, 1});
      for (std::size_t a = 0; a < 5; ++a) EXPECT_NEAR(W[i][a], wanted[a], 1e-11) << i;
      // Nothing near that keeps the constraint is better.
      std::vector<double> change(noise.begin() + static_cast<std::ptrdiff_t>(5 * i),
                                 noise.begin() + static_cast<std::ptrdiff_t>(5 * i + 5));
      const double along = dot(change, D[i]) / dot(D[i], D[i]);
      for (std::size_t a = 0; a < 5; ++a) change[a] -= along * D[i][a];
      for (const double size : {1e-2, -1e-2, 1.0}) {
        std::vector<double> other = W[i];
        for (std::size_t a = 0; a < 5; ++a) other[a] += size * change[a];
        EXPECT_GT(spread(D, other, added), spread(D, W[i], added));
      }
    }
  }
}

TEST(AnalyticWeights, TakeZeroAtomsLowRanksAndAnyUnits) {
  const Context host = Context::cpu(1);
  NetworkProblems problems(5, 9, 1);
  std::fill_n(problems.D.begin() + 10, 5, 0.0);
  const Columns W = columns_of(analytic_weights(host, problems.dictionary(), 0));
  EXPECT_EQ(W[2], std::vector<double>(5, 0.0));
  for (const std::size_t i : {0, 1, 3, 8}) EXPECT_NEAR(dot(W[i], columns_of(problems)[i]), 1, 1e-13);

  const NetworkProblems small = problems.scaled(0x1p-43, 1);
  const Columns large = columns_of(analytic_weights(host, small.dictionary(), 0.1));
  const Columns usual = columns_of(analytic_weights(host, problems.dictionary(), 0.1));
  for (std::size_t i = 0; i < 9; ++i)
    for (std::size_t a = 0; a < 5; ++a) EXPECT_NEAR(large[i][a] * 0x1p-43, usual[i][a], 1e-13);

  // In a space with three more dimensions, which no atom has, the solution lies where the atoms are: B W for B D, B'B = I.
  NetworkProblems raised(8, 9, 1);
  for (std::int64_t j = 0; j < 9; ++j) {
    for (std::int64_t i = 0; i < 8; ++i) {
      double sum = 0;  // B = the first columns of I - 2 u u', u = ones / sqrt(8)
      for (std::int64_t k = 0; k < 5; ++k) sum += ((i == k ? 1 : 0) - 0.25) * problems.d(k, j);
      raised.D[static_cast<std::size_t>(i + 8 * j)] = sum;
    }
  }
  const Columns high = columns_of(analytic_weights(host, raised.dictionary(), 0));
  for (std::size_t j = 0; j < 9; ++j)
    for (std::size_t i = 0; i < 8; ++i) {
      double sum = 0;
      for (std::size_t k = 0; k < 5; ++k) sum += ((i == k ? 1 : 0) - 0.25) * W[j][k];
      EXPECT_NEAR(high[j][i], sum, 1e-12);
    }

  // A ridge over everything leaves d / ||d||^2.
  const Columns plain = columns_of(analytic_weights(host, problems.dictionary(), 1e8));
  for (std::size_t j = 0; j < 9; ++j)
    for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(plain[j][i], columns_of(problems)[j][i], 1e-7);

  EXPECT_THROW(analytic_weights(host, problems.dictionary(), -1), ValueError);
  EXPECT_THROW(analytic_weights(host, problems.dictionary(), std::nan("")), ValueError);
}

TEST(AnalyticWeights, HaveASpectralRadius) {
  const Context host = Context::cpu(1);
  const std::vector<double> D{1, 0, 0, 0, 2, 0, 0, 0, 3}, W{7, 0, 0, 0, 2, 0, 0, 0, 4};  // W'D = diag(7, 4, 12)
  const MatrixView<const double> its_D{D.data(), 3, 3, 3, {}}, its_W{W.data(), 3, 3, 3, {}};
  EXPECT_GE(spectral_radius(host, its_W, its_D), 12);
  EXPECT_LE(spectral_radius(host, its_W, its_D), 12 * 1.06);
  const std::vector<double> zero(9, 0.0);
  EXPECT_EQ(spectral_radius(host, {zero.data(), 3, 3, 3, {}}, its_D), 1);

  // W'D of an analytic W has the eigenvalues of a symmetric matrix; those at rank 5 of atoms of norm 1 lie close together.
  const NetworkProblems problems(5, 9, 1);
  const Tensor<double> analytic = analytic_weights(host, problems.dictionary(), 0);
  const Columns w = columns_of(analytic), d = columns_of(problems);
  std::vector<double> v(9, 1.0);
  double radius = 0;
  for (int k = 0; k < 20000; ++k) {
    std::vector<double> image(5, 0.0);
    for (std::size_t j = 0; j < 9; ++j)
      for (std::size_t i = 0; i < 5; ++i) image[i] += v[j] * d[j][i];
    for (std::size_t j = 0; j < 9; ++j) v[j] = dot(w[j], image);
    radius = std::sqrt(dot(v, v));
    for (double& value : v) value /= radius;
  }
  const double found = spectral_radius(host, analytic.matrix(), problems.dictionary());
  EXPECT_GE(found, radius);
  EXPECT_LE(found, 1.06 * radius);
}

// ----------------------------------------------------------------------------------------------------------- files

/// Different parameters everywhere, steps and gammas in their range.
template <class T>
void disturb(const Context& context, Network<T>& network) {
  std::vector<T> values = network.to_host(context);
  const std::vector<double> noise = normal_numbers(static_cast<std::int64_t>(values.size()), 99);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(static_cast<double>(values[i]) * std::exp(0.1 * noise[i]));
  network.to_device(context, values);
}

template <class T>
Safetensors file_of(const Context& context, const Network<T>& network) {
  Safetensors file;
  describe({network.spec(), network.rows(), network.atoms(), 0xFEDCBA9876543210U, {0.1, 0.3, 0}, false}, file);
  network.save(context, file);
  return file;
}

template <class T>
void expect_kept(const Context& context, const Dictionary& dictionary, const Scaled& scaled, NetworkSpec spec) {
  const auto network = make_network<T>(context, dictionary, spec);
  disturb(context, *network);
  const std::string path = ::testing::TempDir() + "network_test-" + name_of(spec.kind) + ".safetensors";
  write_safetensors(path, file_of<T>(context, *network));
  const Safetensors file = read_safetensors(path);
  const NetworkDescription description = description_of(file);
  EXPECT_EQ(description.spec.kind, spec.kind);
  EXPECT_EQ(description.spec.layers, spec.layers);
  EXPECT_EQ(description.rows, 7);
  EXPECT_EQ(description.atoms, 13);
  EXPECT_EQ(description.dictionary_hash, 0xFEDCBA9876543210U);
  EXPECT_EQ(description.lambda.low, 0.1);
  EXPECT_EQ(description.lambda.high, 0.3);
  EXPECT_EQ(description.in_double, (std::is_same_v<T, double>));
  if (spec.kind == NetworkKind::alista) {
    EXPECT_EQ(description.spec.analytic, spec.analytic);
    EXPECT_EQ(description.spec.ridge, spec.ridge);
    EXPECT_EQ(description.spec.selection.percent_a_layer, spec.analytic ? 7 : 0);
    EXPECT_EQ(description.spec.selection.most_percent, spec.analytic ? 21.5 : 0);
  }
  const auto again = make_network<T>(context, dictionary, description.spec);
  again->load(context, file);
  EXPECT_EQ(again->to_host(context), network->to_host(context)) << name_of(spec.kind);
  EXPECT_EQ(codes_of<T>(context, *again, scaled.problems.X, scaled.lambda),
            codes_of<T>(context, *network, scaled.problems.X, scaled.lambda));
}

TEST_P(Networks, AreKeptBitForBitInFilesWhateverTheUnits) {
  const Scaled scaled(NetworkProblems(7, 13, 8, 2));
  for (const double unit : {1.0, 1e-13}) {
    const NetworkProblems problems = scaled.problems.scaled(unit, 1);
    const Dictionary dictionary(context(), problems.dictionary());
    for (const NetworkKind kind : kKinds) {
      NetworkSpec spec;
      spec.kind = kind;
      spec.layers = 3;
      spec.ridge = 0.1;
      spec.selection = {7, 21.5};
      if (!has_scalar_layers(kind)) expect_kept<float>(context(), dictionary, scaled, spec);
      expect_kept<double>(context(), dictionary, scaled, spec);
      spec.analytic = false;
      if (kind == NetworkKind::alista) expect_kept<double>(context(), dictionary, scaled, spec);
    }
  }
}

TEST_P(Networks, GradientsAreByTheUsersParameters) {
  const NetworkProblems usual(7, 13, 9, 3), other = usual.scaled(0x1p-43, 0x1p-20);
  const Dictionary dictionary(context(), usual.dictionary()), small(context(), other.dictionary());
  MemorySource source(usual.observations()), small_source(other.observations());
  const auto values = [](const Safetensors& file, const std::string& name) {
    return file.values<double>(name, file.at(name).shape);
  };
  for (const NetworkKind kind : kKinds) {
    NetworkSpec spec;
    spec.kind = kind;
    spec.layers = 3;
    const auto network = make_network<double>(context(), dictionary, spec);
    disturb(context(), *network);
    const auto of_small = make_network<double>(context(), small, spec);
    of_small->to_device(context(), network->to_host(context()));
    Safetensors parameters, small_parameters;
    network->save(context(), parameters);
    of_small->save(context(), small_parameters);
    const Safetensors gradient = cost_gradient<double>(context(), dictionary, *network, source, 0.2);
    const Safetensors small_gradient = cost_gradient<double>(context(), small, *of_small, small_source, 0.2);
    ASSERT_EQ(gradient.tensors().size(), parameters.tensors().size());
    double sum = 0;
    for (const auto& [name, tensor] : gradient.tensors()) {
      EXPECT_EQ(tensor.shape, parameters.at(name).shape) << name;
      EXPECT_EQ(tensor.type, StoredType::f64);
      // p dF/dp has the units of F, which is 2^-40 of what it was.
      const std::vector<double> p = values(parameters, name), g = values(gradient, name);
      const std::vector<double> small_p = values(small_parameters, name), small_g = values(small_gradient, name);
      for (std::size_t i = 0; i < g.size(); ++i) {
        EXPECT_EQ(p[i] * g[i] * 0x1p-40, small_p[i] * small_g[i]) << name << i;
        sum += std::fabs(p[i] * g[i]);
      }
    }
    EXPECT_GT(sum, 0.01) << name_of(kind);
  }
}

class NetworkFiles : public ::testing::Test {
 protected:
  const Context host = Context::cpu(1);
  const NetworkProblems problems{5, 8, 1};
  const Dictionary dictionary{host, problems.dictionary()};

  Safetensors made(NetworkKind kind) const {
    NetworkSpec spec;
    spec.kind = kind;
    spec.layers = 3;
    return has_scalar_layers(kind) ? file_of<double>(host, *make_network<double>(host, dictionary, spec))
                                   : file_of<float>(host, *make_network<float>(host, dictionary, spec));
  }
  /// The file with another text, or without where that is empty.
  static Safetensors with(Safetensors file, const std::string& key, const std::string& text) {
    file.metadata.erase(key);
    if (!text.empty()) file.metadata[key] = text;
    return file;
  }
  /// The file with another tensor in place of one.
  static Safetensors with(const Safetensors& file, const std::string& name, StoredTensor tensor) {
    Safetensors result;
    result.metadata = file.metadata;
    for (const auto& [its_name, its] : file.tensors()) result.add(its_name, its_name == name ? tensor : its);
    return result;
  }
  void read(const Safetensors& file) const {
    const NetworkDescription description = description_of(file);
    if (description.in_double)
      make_network<double>(host, dictionary, description.spec)->load(host, file);
    else
      make_network<float>(host, dictionary, description.spec)->load(host, file);
  }
};

TEST_F(NetworkFiles, AreRefusedWhereTheMetadataAreNotTheirs) {
  for (const NetworkKind kind : kKinds) ASSERT_NO_THROW(read(made(kind)));
  const std::vector<std::pair<std::string, std::string>> wrong{{"format", ""},
                                                               {"format", "shrinkwarp-network-2"},
                                                               {"network", ""},
                                                               {"network", "lstm"},
                                                               {"layers", ""},
                                                               {"layers", "0"},
                                                               {"layers", "-3"},
                                                               {"layers", "3.5"},
                                                               {"layers", "99999999999999999999"},
                                                               {"rows", "0"},
                                                               {"atoms", "8x"},
                                                               {"dictionary_hash", "wxyz"},
                                                               {"lambda_low", "nan"},
                                                               {"lambda_high", "0.05"},
                                                               {"lambda_high", "inf"},
                                                               {"matrix", "diagonal"},
                                                               {"ridge", "-1"},
                                                               {"selected_percent", "101"},
                                                               {"selected_percent", ""},
                                                               {"selected_percent_a_layer", "-1"}};
  for (const auto& [key, text] : wrong)
    EXPECT_THROW(description_of(with(made(NetworkKind::alista), key, text)), ValueError) << key << " '" << text << "'";
  // Of sizes that the tensors do not have nothing is made.
  for (const NetworkKind kind : kKinds) EXPECT_THROW(description_of(with(made(kind), "layers", "1000000")), ShapeError);
}

TEST_F(NetworkFiles, AreRefusedWhereTheirTensorsAreNotThose) {
  for (const NetworkKind kind : kKinds) {
    const Safetensors file = made(kind);
    for (const auto& [name, tensor] : file.tensors()) {
      const std::size_t size = tensor.type == StoredType::f64 ? 8 : 4;
      StoredTensor longer = tensor, nan = tensor, whole = tensor;
      ++longer.shape.back();
      longer.bytes.resize(longer.bytes.size() / static_cast<std::size_t>(tensor.shape.back()) *
                          static_cast<std::size_t>(longer.shape.back()));
      std::fill_n(nan.bytes.end() - static_cast<std::ptrdiff_t>(size), size, std::byte{0xFF});
      whole.type = size == 8 ? StoredType::i64 : StoredType::i32;
      EXPECT_THROW(read(with(file, name, longer)), ShapeError) << name_of(kind) << " " << name;
      EXPECT_THROW(read(with(file, name, nan)), ValueError) << name_of(kind) << " " << name;
      EXPECT_THROW(read(with(file, name, whole)), ValueError) << name_of(kind) << " " << name;
      Safetensors without;
      without.metadata = file.metadata;
      for (const auto& [its_name, its] : file.tensors())
        if (its_name != name) without.add(its_name, its);
      EXPECT_THROW(read(without), ValueError) << name_of(kind) << " " << name;
    }
  }
  Safetensors backwards;
  backwards.metadata = made(NetworkKind::step).metadata;
  backwards.add("steps", {3}, std::vector<double>{1, -1, 1});
  EXPECT_THROW(read(backwards), ValueError);
}

TEST_F(NetworkFiles, BelongToOneDictionary) {
  const NetworkDescription description = description_of(made(NetworkKind::lista));
  EXPECT_NO_THROW(require_dictionary(description, "net", 5, 8, 0xFEDCBA9876543210U, "D"));
  EXPECT_THROW(require_dictionary(description, "net", 5, 9, 0xFEDCBA9876543210U, "D"), ShapeError);
  EXPECT_THROW(require_dictionary(description, "net", 6, 8, 0xFEDCBA9876543210U, "D"), ShapeError);
  EXPECT_THROW(require_dictionary(description, "net", 5, 8, 0xFEDCBA9876543211U, "D"), ValueError);
}

// --------------------------------------------------------------------------------------------------------- samples

TEST_P(Networks, SamplesAreTheSameHeldAndReadAnew) {
  const NetworkProblems problems = NetworkProblems(7, 13, 50).scaled(1e-13, 3e5);
  const Dictionary dictionary(context(), problems.dictionary());
  MemorySource source(problems.observations());
  const std::vector<std::int64_t> rows{0, 1, 2, 10, 11, 30, 49}, chosen{3, 0, 6, 5, 1, 3};
  const Samples<float> held(context(), dictionary, source, rows, 1 << 20),
      streamed(context(), dictionary, source, rows, 0);
  EXPECT_EQ(held.size(), 7);
  EXPECT_EQ(held.unit(), streamed.unit());
  EXPECT_EQ(held.lambda_max(), streamed.lambda_max());
  EXPECT_EQ(held.mean_energy(), streamed.mean_energy());
  const Context host = Context::cpu(1);
  const LambdaShares shares{0.1, 0.5, 3};
  const Tensor<float> X(host, 7, 6), again(host, 7, 6), lambda(host, 6), lambda_again(host, 6);
  held.gather(chosen.data(), shares, 2, X.matrix(), lambda.vector());
  streamed.gather(chosen.data(), shares, 2, again.matrix(), lambda_again.vector());
  double energy = 0, largest = 0;
  for (std::int64_t b = 0; b < 6; ++b) {
    const std::int64_t sample = chosen[static_cast<std::size_t>(b)], row = rows[static_cast<std::size_t>(sample)];
    EXPECT_EQ(lambda.data()[b], lambda_again.data()[b]);
    const double lambda_max = problems.lambda_max(row) / held.unit() / dictionary.scale();
    EXPECT_NEAR(lambda.data()[b], shares.of(sample, 2) * lambda_max, 1e-6 * lambda_max);
    for (std::int64_t i = 0; i < 7; ++i) {
      EXPECT_EQ(X.matrix()(i, b), again.matrix()(i, b));
      EXPECT_EQ(X.matrix()(i, b), static_cast<float>(problems.x(i, row) / held.unit()));
    }
  }
  for (const std::int64_t row : rows)
    for (std::int64_t i = 0; i < 7; ++i) {
      const double value = problems.x(i, row) / held.unit();
      energy += value * value / 14;
      largest = std::max(largest, std::fabs(value));
    }
  EXPECT_NEAR(held.mean_energy(), energy, 1e-13 * energy);
  EXPECT_GE(largest, 1);
  EXPECT_LT(largest, 2);
}

TEST(SamplesAreToldApart, ByTheHashOfTheirValues) {
  const Context host = Context::cpu(1);
  const NetworkProblems problems(2, 3, 1100);  // more than are read at once
  const Dictionary dictionary(host, problems.dictionary());
  std::vector<std::int64_t> all;
  for (std::int64_t i = 0; i < problems.N; ++i) all.push_back(i);
  const auto hash = [&](const NetworkProblems& its, const std::vector<std::int64_t>& rows) {
    MemorySource source(its.observations());
    return Samples<float>(host, dictionary, source, rows, 0).hash();
  };
  const auto bytes = [](std::int64_t rows) { return 2 * rows * static_cast<std::int64_t>(sizeof(double)); };
  EXPECT_EQ(hash(problems, all), hash_bytes(problems.X.data(), bytes(1100)));
  EXPECT_EQ(hash(problems, {5, 6}), hash_bytes(problems.X.data() + 10, bytes(2)));
  // What lambda_max and energies do not tell apart.
  EXPECT_NE(hash(problems.scaled(1, -1), all), hash(problems, all));
  NetworkProblems nearly = problems;
  nearly.X.back() = std::nextafter(nearly.X.back(), 0);
  EXPECT_NE(hash(nearly, all), hash(problems, all));
}

TEST(SampleRows, AreSplitByTens) {
  using Rows = std::vector<std::int64_t>;
  SampleRows rows = split_rows(25, false);
  EXPECT_EQ(rows.validation, (Rows{9, 19}));
  EXPECT_EQ(rows.training.size(), 23U);
  EXPECT_EQ(rows.training[9], 10);
  rows = split_rows(3, false);
  EXPECT_EQ(rows.training, (Rows{0, 1, 2}));
  EXPECT_EQ(rows.validation, rows.training);
  rows = split_rows(30, true);
  EXPECT_EQ(rows.training.size(), 30U);
  EXPECT_TRUE(rows.validation.empty());
  EXPECT_EQ(start_rows(split_rows(20000, true).training).size(), 10000U);
  EXPECT_EQ(start_rows({4, 7}), (Rows{4, 7}));
}

TEST(SampleCosts, HaveTheUsersUnit) {
  const Context host = Context::cpu(1);
  const NetworkProblems problems(4, 6, 5);
  const Dictionary dictionary(host, problems.dictionary());
  const auto unit = [&](double factor) {
    const NetworkProblems its = problems.scaled(1, factor);
    MemorySource source(its.observations());
    const Samples<double> samples(host, dictionary, source, {0, 1, 2}, 0);
    EXPECT_EQ(cost_unit(samples, "X"), samples.unit() * samples.unit());
    return cost_unit(samples, "X");
  };
  EXPECT_EQ(unit(1024), 1024.0 * 1024 * unit(1));
  EXPECT_THROW(unit(1e160), ValueError);
  EXPECT_THROW(unit(1e-160), ValueError);
}

TEST(SamplesAreRefused, WhereTheyDoNotFit) {
  const Context host = Context::cpu(1);
  const NetworkProblems problems(4, 6, 5), longer(5, 6, 5);
  const Dictionary dictionary(host, problems.dictionary());
  MemorySource source(problems.observations()), other(longer.observations());
  EXPECT_THROW(Samples<double>(host, dictionary, other, {0}, 0), ShapeError);
  EXPECT_THROW(Samples<double>(host, dictionary, source, {}, 0), ShapeError);
  NetworkProblems broken = problems;
  broken.X[3 * 4 + 1] = std::nan("");
  MemorySource bad(broken.observations());
  EXPECT_NO_THROW(Samples<double>(host, dictionary, bad, {0, 1, 2, 4}, 0));
  try {
    Samples<double>(host, dictionary, bad, {0, 2, 3}, 0);
    FAIL() << "a row with NaN was taken";
  } catch (const ValueError& error) {
    EXPECT_NE(std::string(error.what()).find('3'), std::string::npos) << error.what();
  }
}

TEST(SampleOrder, IsAPermutationThatSeedAndPassDetermine) {
  for (const std::int64_t count : {0, 1, 2, 1000}) {
    const std::vector<std::int64_t> order = shuffled(count, 1, 2);
    std::vector<std::int64_t> sorted = order, all(static_cast<std::size_t>(count));
    std::sort(sorted.begin(), sorted.end());
    std::iota(all.begin(), all.end(), std::int64_t{0});
    EXPECT_EQ(sorted, all);
    EXPECT_EQ(order, shuffled(count, 1, 2));
  }
  EXPECT_NE(shuffled(1000, 1, 2), shuffled(1000, 1, 3));
  EXPECT_NE(shuffled(1000, 1, 2), shuffled(1000, 2, 2));
  // Where the first sample goes is as likely to be in one quarter as in another: 400 times in 1600, six deviations are 104.
  int quarters[4] = {};
  for (std::uint64_t pass = 0; pass < 1600; ++pass) {
    const std::vector<std::int64_t> order = shuffled(8, 5, pass);
    ++quarters[(std::find(order.begin(), order.end(), 0) - order.begin()) / 2];
  }
  for (const int count : quarters) EXPECT_NEAR(count, 400, 104);
}

TEST(SampleLambdas, AreEvenInTheirLogarithms) {
  constexpr int kDraws = 4000;
  const LambdaShares shares{0.1, 0.8, 7};
  std::vector<double> places;
  for (std::int64_t i = 0; i < kDraws; ++i) {
    const double share = shares.of(i, 3);
    ASSERT_GE(share, 0.1);
    ASSERT_LE(share, 0.8);
    places.push_back(std::log(share / 0.1) / std::log(8));
  }
  std::sort(places.begin(), places.end());
  double distance = 0;  // of Kolmogorov and Smirnov; 2.5 / sqrt(draws) is passed once in 130,000 seeds
  for (int i = 0; i < kDraws; ++i) {
    const double at = places[static_cast<std::size_t>(i)];
    distance = std::max({distance, at - static_cast<double>(i) / kDraws, static_cast<double>(i + 1) / kDraws - at});
  }
  EXPECT_LE(distance, 2.5 / std::sqrt(kDraws));
  EXPECT_EQ(shares.of(17, 3), (LambdaShares{0.1, 0.8, 7}.of(17, 3)));
  EXPECT_NE(shares.of(17, 3), shares.of(17, 4));
  EXPECT_NE(shares.of(17, 3), (LambdaShares{0.1, 0.8, 8}.of(17, 3)));
  EXPECT_EQ((LambdaShares{0.3, 0.3, 7}.of(17, 3)), 0.3);
}

}  // namespace
}  // namespace shrinkwarp
