// Small runs of kernels on the host executor, each compared with the CPU body or, where there is none, with what plain loops
// say: what the mutation tests run.
//
//   operations NAME    exit status 0 where the result is right, 1 where it is wrong, 2 for an unknown name
//
// Values are small integers and steps powers of two, so that sums are exact in any order.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include <shrinkwarp/kernels/active_set/active_sets.hpp>
#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/gradient_step/gradient_step.hpp>
#include <shrinkwarp/kernels/gradient_step/group_step.hpp>
#include <shrinkwarp/kernels/group_set/group_set.hpp>
#include <shrinkwarp/kernels/group_set/group_sets.hpp>
#include <shrinkwarp/kernels/linear/linear.hpp>
#include <shrinkwarp/kernels/lista_network/lista_network.hpp>
#include <shrinkwarp/kernels/momentum_residual/exact_momentum.hpp>
#include <shrinkwarp/kernels/non_finite/non_finite.hpp>
#include <shrinkwarp/kernels/optimizer/optimizer.hpp>
#include <shrinkwarp/kernels/panel_bounds/panel_bounds.hpp>
#include <shrinkwarp/kernels/proximal_iterations/proximal_iterations.hpp>
#include <shrinkwarp/kernels/step_network/step_network.hpp>
#include <shrinkwarp/kernels/working_set/working_set.hpp>
#include <shrinkwarp/runtime/arena.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t n = 20;   // two steps of every product along the sensors
constexpr std::int64_t m = 140;  // two tiles of atoms
constexpr std::int64_t N = 9;
constexpr std::int64_t kGroup = 20;  // the last group of 20 atoms lies in both tiles

/// rows x cols integers from -4 to 4 on the context's device.
template <class T>
Tensor<T> integers(const Context& context, std::int64_t rows, std::int64_t cols, std::uint32_t seed) {
  std::vector<T> values(static_cast<std::size_t>(rows * cols));
  std::uint32_t state = 7919u * (seed + 1);
  for (T& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<T>(static_cast<int>((state >> 16) % 9u) - 4);
  }
  Tensor<T> tensor(context, rows, cols);
  copy(context, VectorView<const T>{values.data(), rows * cols, {}}, tensor.vector());
  context.synchronize();
  return tensor;
}

template <class T>
Tensor<T> constant(const Context& context, std::int64_t size, T value) {
  const std::vector<T> values(static_cast<std::size_t>(size), value);
  Tensor<T> tensor(context, size);
  copy(context, VectorView<const T>{values.data(), size, {}}, tensor.vector());
  context.synchronize();
  return tensor;
}

template <class T>
std::vector<double> host(const Context& context, const Tensor<T>& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.size()));
  copy(context, tensor.vector(), VectorView<T>{values.data(), tensor.size(), {}});
  context.synchronize();
  return {values.begin(), values.end()};
}

std::vector<double> residual(const Context& context) {
  const StepDictionary<float> D(context, integers<float>(context, n, m, 1).matrix());
  const auto current = integers<float>(context, m, N, 2), previous = integers<float>(context, m, N, 3);
  const auto beta = constant(context, N, 0.5f);
  const auto X = integers<float>(context, n, N, 4);
  const Tensor<float> R(context, n, N), scratch(context, residual_scratch(context, D.rows(), D.cols(), N));
  extrapolated_residual(context, D, current.matrix(), previous.matrix(), beta.vector(), X.matrix(), R.matrix(),
                        scratch.vector());
  return host(context, R);
}

std::vector<double> step(const Context& context) {
  const StepDictionary<float> D(context, integers<float>(context, n, m, 1).matrix());
  const auto R = integers<float>(context, n, N, 2), anchor = integers<float>(context, m, N, 3);
  const auto current = integers<float>(context, m, N, 4), previous = integers<float>(context, m, N, 5);
  const auto beta = constant(context, N, 0.5f), lambda = constant(context, N, 4.0f);
  const Tensor<float> restart(context, step_tiles(context, m), N);
  const Tensor<std::int32_t> support(context, step_tiles(context, m), N);
  gradient_step(context, D, R.matrix(), anchor.matrix(), current.matrix(), previous.matrix(), beta.vector(), 0.25f,
                lambda.vector(), {}, StepPartials<float>{restart.matrix(), support.matrix()});
  return host(context, previous);
}

std::vector<double> step_of_groups(const Context& context) {
  const StepDictionary<double> D(context, integers<double>(context, n, m, 1).matrix());
  const auto R = integers<double>(context, n, N, 2), anchor = integers<double>(context, m, N, 3);
  const auto current = integers<double>(context, m, N, 4), previous = integers<double>(context, m, N, 5);
  const auto beta = constant(context, N, 0.5), lambda = constant(context, N, 4.0);
  const Tensor<double> restart(context, step_tiles(context, m), N), moved(context, m, N);
  const Tensor<std::int32_t> support(context, step_tiles(context, m), N);
  group_step<double>(context, D, R.matrix(), anchor.matrix(), current.matrix(), previous.matrix(), beta.vector(), 0.25,
                     lambda.vector(), {}, {restart.matrix(), support.matrix()}, {{}, 0, false, kGroup}, moved.matrix());
  return host(context, previous);
}

/// One, after which sums are too large to be exact.
std::vector<double> iterations(const Context& context) {
  const StepDictionary<float> D(context, integers<float>(context, n, m, 1).matrix());
  const auto X = integers<float>(context, n, N, 2), anchor = integers<float>(context, m, N, 3);
  const auto current = integers<float>(context, m, N, 4), previous = integers<float>(context, m, N, 5);
  const auto beta = constant(context, N, 0.5f), lambda = constant(context, N, 4.0f);
  const auto t = constant(context, N, 1.0);
  const Tensor<float> scratch(context, iterations_scratch(context, D, N));
  proximal_iterations(context, D, X.matrix(), anchor.matrix(), lambda.vector(), {}, {0.25f, {}}, 1,
                      Momentum::fista_restart, MathMode::split_tf32, current.matrix(), previous.matrix(), t.vector(),
                      beta.vector(), scratch.vector());
  return host(context, current);
}

/// Loss and gradient of two layers; D of 0 and +-1, so that sparse codes keep sums exact.
std::vector<double> step_network(const Context& context) {
  std::vector<float> signs;
  for (const double value : host(context, integers<float>(context, n, m, 1)))
    signs.push_back(value > 2 ? 1.0f : value < -2 ? -1.0f : 0.0f);
  const std::vector<float> sizes = {0.0625f, 0.03125f};
  const Tensor<float> D(context, n, m), steps(context, 2);
  copy(context, VectorView<const float>{signs.data(), n * m, {}}, D.vector());
  copy(context, VectorView<const float>{sizes.data(), 2, {}}, steps.vector());
  const StepNetworkOperands<float> operands(context, D.matrix());
  const StepNetwork<float> layers{operands, steps.vector(), {}, {}};
  const auto X = integers<float>(context, n, N, 2);
  const auto lambda = constant(context, N, 16.0f);
  const Tensor<double> found(context, 3);
  const Tensor<std::byte> scratch(context, step_network_scratch(context, layers, N, true));
  step_network_loss<float>(context, layers, X.matrix(), lambda.vector(), found.vector().slice(0, 1),
                           found.vector().slice(1, 2), {}, scratch.vector());
  return host(context, found);
}

/// Two layers, after which sums are too large to be exact.
std::vector<double> lista(const Context& context, ListaKind kind) {
  const ListaLayout layout{kind, n, m, 2};
  const auto D = integers<float>(context, n, m, 1), parameters = integers<float>(context, layout.size(), 1, 2);
  const auto X = integers<float>(context, n, N, 3);
  const auto lambda = constant(context, N, 4.0f);
  const ListaNetwork<float> network{layout, D.matrix(), parameters.vector()};
  const Tensor<float> Z(context, m, N);
  const Tensor<std::byte> scratch(context, lista_network_scratch(context, network, N, false));
  lista_network_forward(context, network, X.matrix(), lambda.vector(), Z.matrix(), scratch.vector());
  return host(context, Z);
}

std::vector<double> free_network(const Context& context) {
  return lista(context, ListaKind::free);
}

std::vector<double> coupled_network(const Context& context) {
  return lista(context, ListaKind::coupled);
}

std::vector<double> momentum_network(const Context& context) {
  return lista(context, ListaKind::momentum);
}

std::vector<double> residual_of_codes(const Context& context) {
  const CertificateDictionary D(context, integers<double>(context, n, m, 1).matrix());
  const auto codes = integers<float>(context, m, N, 2);
  const auto X = integers<double>(context, n, N, 3);
  const Tensor<double> R(context, n, N);
  const Tensor<float> rounded(context, n, N);
  code_residual<float>(context, D, codes.matrix(), X.matrix(), R.matrix(), rounded.matrix());
  return host(context, R);
}

std::vector<double> correlation(const Context& context) {
  const CertificateDictionary D(context, integers<double>(context, n, m, 1).matrix());
  const auto R = integers<double>(context, n, N, 2);
  const Tensor<double> result(context, N), scratch(context, correlation_scratch(context, m, N));
  correlation_max(context, D, R.matrix(), result.vector(), scratch.vector());
  return host(context, result);
}

std::vector<double> group_correlation(const Context& context) {
  const CertificateDictionary D(context, integers<double>(context, n, m, 1).matrix());
  const auto R = integers<double>(context, n, N, 2);
  const Tensor<double> result(context, N), scratch(context, correlation_scratch(context, m, N, kGroup));
  correlation_max<double>(context, D, R.matrix(), {}, {{}, 0, false, kGroup}, result.vector(), scratch.vector());
  return host(context, result);
}

std::vector<double> gap_under(const Context& context, const PenaltyView<double>& penalty) {
  const auto X = integers<double>(context, n, N, 1), R = integers<double>(context, n, N, 2);
  const auto codes = integers<float>(context, m, N, 3);
  const auto correlation = constant(context, N, 64.0), lambda = constant(context, N, 8.0);
  const Tensor<double> primal(context, N), gap(context, N);
  dual_gap<float>(context, X.matrix(), R.matrix(), correlation.vector(), codes.matrix(), 1.0, lambda.vector(),
                  primal.vector(), gap.vector(), penalty);
  return host(context, gap);
}

std::vector<double> gap(const Context& context) {
  return gap_under(context, {});
}

std::vector<double> group_gap(const Context& context) {
  return gap_under(context, {{}, 0, false, kGroup});
}

/// Of a gradient of two pieces.
std::vector<double> norm(const Context& context) {
  const auto grad = integers<float>(context, 5000, 1, 1);
  const Tensor<double> result(context, 1), scratch(context, norm_scratch(5000));
  squared_norm<float>(context, grad.vector(), scratch.vector(), result.vector());
  return host(context, result);
}

/// Two steps of Adam, the second with a gradient that is clipped to half.
std::vector<double> adam(const Context& context) {
  const auto grad = integers<float>(context, 301, 1, 1);
  const auto first = constant(context, 301, 0.0f), second = constant(context, 301, 0.0f);
  const auto parameters = integers<float>(context, 301, 1, 2);
  const auto rates = constant(context, 1, 0.25), schedule = constant(context, Schedule::kSize, 0.0);
  for (const double square : {4.0, 16.0}) {
    const auto norm = constant(context, 1, square);
    advance_schedule(context, rates.vector(), norm.vector(), 2.0, {}, schedule.vector());
    adam_step(context, grad.vector(), {}, schedule.vector(), first.vector(), second.vector(), parameters.vector());
  }
  return host(context, parameters);
}

/// Layers of several momenta, whose intervals differ, on two tiles and a half; `f` is what every branch gives.
std::vector<double> exact_layers(const Context& context, std::int64_t layers, const Tensor<float>& f,
                                 bool status_only) {
  constexpr std::int64_t kSize = 80;
  const std::int64_t tiles = InformationBuffer::tiles(kSize), capacity = information_capacity(4.0 * layers);
  std::vector<float> values;
  for (std::int64_t t = 0; t < layers; ++t) values.push_back(t % 3 == 0 ? .1f : t % 3 == 1 ? .99f : .3f);
  const Tensor<float> learned(context, layers);
  copy<float>(context, VectorView<const float>{values.data(), layers, {}}, learned.vector());
  const Tensor<MomentumGamma> gammas(context, layers);
  prepare_gammas<float>(context, learned.vector(), {.01, .999, true}, gammas.vector());
  const auto x = integers<float>(context, kSize, 1, 1), v = integers<float>(context, kSize, 1, 2);
  const Tensor<std::int64_t> places(context, kSize), speeds(context, kSize);
  const Tensor<std::uint64_t> states(context, kSize);
  const Tensor<std::uint32_t> words(context, capacity * tiles);
  const Tensor<std::int32_t> counts(context, tiles), status(context, 1);
  const ExactState state{
      places.vector(), speeds.vector(), {states.vector(), words.vector(), counts.vector(), capacity}, status.vector()};
  clear_status(context, status.vector());
  exact_momentum_begin<float>(context, x.vector(), v.vector(), gammas.vector(), state, x.vector());
  for (std::int64_t t = 0; t < layers; ++t)
    exact_momentum_forward<float>(context, {gammas.vector(), t, MomentumForm::damped}, {f.vector(), {}, false}, state,
                                  x.vector());
  const auto doubles = [&](const auto& tensor) {
    using U = std::remove_reference_t<decltype(tensor.data()[0])>;
    std::vector<U> on_host(static_cast<std::size_t>(tensor.size()));
    copy<U>(context, tensor.vector(), VectorView<U>{on_host.data(), tensor.size(), {}});
    context.synchronize();
    return std::vector<double>(on_host.begin(), on_host.end());
  };
  std::vector<double> result = doubles(status);
  if (status_only) return result;
  for (const auto& part : {doubles(places), doubles(speeds), doubles(states), doubles(counts)})
    result.insert(result.end(), part.begin(), part.end());
  return result;
}

std::vector<double> exact_momentum(const Context& context) {
  return exact_layers(context, 24, integers<float>(context, 80, 1, 3), false);
}

/// A branch that leaves the range in all tiles.
std::vector<double> exact_range(const Context& context) {
  return exact_layers(context, 1, constant(context, 80, 1e30f), true);
}

/// The gradient of the bias of a linear layer.
std::vector<double> linear(const Context& context) {
  const auto W = integers<float>(context, n, m, 1), X = integers<float>(context, n, N, 2);
  const auto Y = integers<float>(context, m, N, 3), dY = integers<float>(context, m, N, 4);
  const auto dW = constant(context, n * m, 0.0f), db = integers<float>(context, m, 1, 5);
  const Tensor<std::byte> scratch(context, linear_backward_scratch<float>(context, n, m, N, Activation::relu));
  linear_backward<float>(context, W.matrix(), Activation::relu, X.matrix(), Y.matrix(), {}, dY.matrix(),
                         {dW.data(), n, m, n, context.device()}, db.vector(), 0.0f, {}, scratch.vector());
  return host(context, db);
}

// ---- kernels that only CUDA has ----

/// |D'X|, each entry an exact sum of integers.
std::vector<double> magnitudes(const std::vector<double>& D, const std::vector<double>& X, std::int64_t rows) {
  std::vector<double> result;
  for (std::size_t b = 0; b < X.size(); b += static_cast<std::size_t>(rows)) {
    for (std::size_t j = 0; j < D.size(); j += static_cast<std::size_t>(rows)) {
      double sum = 0;
      for (std::size_t i = 0; i < static_cast<std::size_t>(rows); ++i) sum += D[j + i] * X[b + i];
      result.push_back(std::fabs(sum));
    }
  }
  return result;
}

HalfColumns half_columns(const Context& context, const Tensor<double>& V) {
  HalfColumns columns(context, V.rows(), V.cols());
  std::vector<std::int32_t> all(static_cast<std::size_t>(V.cols()));
  std::iota(all.begin(), all.end(), 0);
  Tensor<std::int32_t> list(context, V.cols());
  copy(context, VectorView<const std::int32_t>{all.data(), V.cols(), {}}, list.vector());
  columns.set(context, V.matrix(), list.vector());
  context.synchronize();
  return columns;
}

/// The largest correlation of each panel: what a key says where it is a bound of that, and little more.
std::vector<double> panel(const Context& context) {
  constexpr std::int64_t rows = 40;  // two steps along the sensors
  constexpr std::int64_t panels = (m + kPanelAtoms - 1) / kPanelAtoms;
  const auto D = integers<double>(context, rows, m, 1), R = integers<double>(context, rows, N, 2);
  const auto correlations = magnitudes(host(context, D), host(context, R), rows);
  std::vector<double> wanted(static_cast<std::size_t>(panels * N), 0.0);
  for (std::int64_t b = 0; b < N; ++b) {
    for (std::int64_t j = 0; j < m; ++j) {
      double& most = wanted[static_cast<std::size_t>(j / kPanelAtoms + b * panels)];
      most = std::max(most, correlations[static_cast<std::size_t>(j + b * m)]);
    }
  }
  if (!context.is_cuda()) return wanted;
  const HalfColumns half_D = half_columns(context, D), half_R = half_columns(context, R);
  const Tensor<std::uint32_t> keys(context, panels, N);
  panel_bounds(context, half_D, half_R, N, keys.matrix());
  std::vector<std::uint32_t> bits(static_cast<std::size_t>(panels * N));
  copy(context, keys.vector(), VectorView<std::uint32_t>{bits.data(), panels * N, {}});
  context.synchronize();
  std::vector<double> found;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    float bound;
    std::memcpy(&bound, &bits[i], sizeof bound);
    // Halves of integers are exact; lengths are at most 4 sqrt(40), the accumulation is bounded by 128 units of 2^-22. The
    // largest number stands for NaN.
    const bool right = bound >= wanted[i] && bound <= (wanted[i] + 2 * 640 * 128 * 0x1p-22) * (1 + 0x1p-18);
    found.push_back(right ? wanted[i] : bound > 1e38f ? std::nan("") : static_cast<double>(bound));
  }
  return found;
}

/// Places whose sets are all atoms, with the code 0.
struct FullSets {
  FullSets(const Context& context, const Tensor<double>& D, const Tensor<double>& X, MatrixView<const double> gram,
           const PenaltyView<double>& penalty = {})
      : atoms(D.cols()),
        places(X.cols()),
        arena([&] {
          Arena counting(context.device());
          ActiveSets::lay_out(counting, atoms, places);
          return Arena(context, counting.used());
        }()),
        sets(ActiveSets::lay_out(arena, atoms, places)),
        list(context, places) {
    for (const auto& vector : {sets.size, sets.support, sets.steps})
      copy(context, constant(context, places, std::int32_t{0}).vector(), vector);
    std::vector<std::int32_t> numbers(static_cast<std::size_t>(atoms * places));
    for (std::size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = static_cast<std::int32_t>(i) % static_cast<std::int32_t>(atoms);
    const Tensor<std::int32_t> fresh(context, atoms, places);
    copy(context, VectorView<const std::int32_t>{numbers.data(), atoms * places, {}}, fresh.vector());
    copy(context, VectorView<const std::int32_t>{numbers.data(), places, {}}, list.vector());
    const auto all = constant(context, places, static_cast<std::int32_t>(atoms));
    add_atoms(context, D.matrix(), gram, X.matrix(), list.vector(), fresh.matrix(), all.vector(), sets, penalty);
  }
  std::vector<double> codes(const Context& context) const {  // [atoms, places]
    std::vector<double> values(static_cast<std::size_t>(atoms * places));
    copy(context, VectorView<const double>{sets.code.data, atoms * places, context.device()},
         VectorView<double>{values.data(), atoms * places, {}});
    context.synchronize();
    return values;
  }

  std::int64_t atoms, places;
  Arena arena;
  ActiveSets sets;
  Tensor<std::int32_t> list;
};

/// d'(x - d z) for column p of x and of the codes z.
std::vector<double> correlations_of(const std::vector<double>& d, const std::vector<double>& x,
                                    const std::vector<double>& codes, std::size_t p, std::size_t atoms) {
  std::vector<double> r(x.begin() + static_cast<std::ptrdiff_t>(p * n),
                        x.begin() + static_cast<std::ptrdiff_t>((p + 1) * n));
  for (std::size_t j = 0; j < atoms; ++j)
    for (std::size_t i = 0; i < n; ++i) r[i] -= d[j * n + i] * codes[p * atoms + j];
  std::vector<double> result(atoms, 0.0);
  for (std::size_t j = 0; j < atoms; ++j)
    for (std::size_t i = 0; i < n; ++i) result[j] += d[j * n + i] * r[i];
  return result;
}

/// Active sets that grow, settle at other lambdas and renew their inverse: by how much the optimality conditions fail.
std::vector<double> sets(const Context& context) {
  constexpr std::int64_t atoms = 60, places = 3;
  if (!context.is_cuda()) return std::vector<double>(places, 0.0);
  const auto D = integers<double>(context, n, atoms, 1), X = integers<double>(context, n, places, 2);
  const Tensor<double> gram(context, atoms, atoms);
  gram_matrix(context, D.matrix(), gram.matrix());
  const FullSets full(context, D, X, gram.matrix());
  const ActiveSets& sets = full.sets;
  const auto tolerance = constant(context, places, 1e-12);
  const std::vector<double> d = host(context, D), x = host(context, X);
  std::vector<double> found(places, 0.0);
  for (const double lambda : {2.0, 60.0, 5.0, 1.0}) {
    if (lambda == 5.0) {  // an inverse that is none
      const auto worn = constant(context, atoms * atoms * places, -1.0);
      copy(context, worn.vector(), VectorView<double>{sets.inverse.data, atoms * atoms * places, context.device()});
    }
    solve_active_sets(context, full.list.vector(), constant(context, places, lambda).vector(), tolerance.vector(), 20,
                      sets);
    const std::vector<double> codes = full.codes(context);
    for (std::size_t p = 0; p < places; ++p) {
      const std::vector<double> correlations = correlations_of(d, x, codes, p, atoms);
      for (std::size_t j = 0; j < atoms; ++j) {
        const double correlation = correlations[j];
        const double z = codes[p * atoms + j];
        const double off = z != 0 ? std::fabs(correlation - std::copysign(lambda, z)) : std::fabs(correlation) - lambda;
        if (!(off <= 1e-9)) found[p] = off;
      }
    }
  }
  return found;
}

/// Sets of groups, solved at several lambdas: by how much the optimality conditions fail.
std::vector<double> groups(const Context& context) {
  constexpr std::int64_t atoms = 30, places = 2, s = 3;
  if (!context.is_cuda()) return std::vector<double>(places, 0.0);
  const auto D = integers<double>(context, n, atoms, 1), X = integers<double>(context, n, places, 2);
  const std::vector<double> d = host(context, D), x = host(context, X);
  PenaltyView<double> penalty;
  penalty.group_size = s;
  const FullSets full(context, D, X, {}, penalty);
  const Context cpu = Context::cpu(1);
  const auto padded =
      Tensor<double>::zeros(cpu, (n + GroupSet::kPadding - 1) / GroupSet::kPadding * GroupSet::kPadding, atoms);
  for (std::int64_t j = 0; j < atoms; ++j) std::copy_n(d.data() + j * n, n, padded.matrix().column(j));
  const GroupBasis basis(cpu, padded.matrix(), s);
  const Tensor<double> vectors(context, s, atoms), values(context, atoms);
  copy(context, basis.vectors(), vectors.matrix());
  copy(context, basis.values(), values.vector());
  const auto tolerance = constant(context, places, 1e-11);
  std::vector<double> found(places, 0.0);
  for (const double lambda : {60.0, 5.0}) {
    solve_group_sets(context, {vectors.matrix(), values.vector()}, full.list.vector(),
                     constant(context, places, lambda).vector(), tolerance.vector(), 60, full.sets, penalty);
    const std::vector<double> codes = full.codes(context);
    for (std::size_t p = 0; p < places; ++p) {
      const std::vector<double> correlations = correlations_of(d, x, codes, p, atoms);
      for (std::size_t first = 0; first < atoms; first += s) {
        const double* const z = codes.data() + p * atoms + first;
        const double length = std::hypot(z[0], z[1], z[2]);
        const double* const correlation = correlations.data() + first;
        double bent[s];
        for (std::size_t k = 0; k < s; ++k) bent[k] = correlation[k] - (length > 0 ? lambda * z[k] / length : 0);
        const double off = length > 0 ? std::hypot(bent[0], bent[1], bent[2])
                                      : std::hypot(correlation[0], correlation[1], correlation[2]) - lambda;
        if (!(off <= 1e-7)) found[p] = off;
      }
    }
  }
  return found;
}

/// Active sets that start at codes, under a penalty: the correlations that follow from that.
std::vector<double> start_of(const Context& context, std::int64_t group_size) {
  constexpr std::int64_t atoms = 12, places = 3;
  constexpr double kRidge = 0.5;
  const auto D = integers<double>(context, n, atoms, 1), X = integers<double>(context, n, places, 2);
  const std::vector<double> d = host(context, D), x = host(context, X);
  const auto product = [&](std::size_t j, const double* r) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += d[j * n + i] * r[i];
    return sum;
  };
  std::vector<double> codes, wanted;
  for (std::size_t p = 0; p < places; ++p) {  // a little of each atom, along its correlation: better than nothing
    std::vector<double> r(x.begin() + static_cast<std::ptrdiff_t>(p * n),
                          x.begin() + static_cast<std::ptrdiff_t>((p + 1) * n));
    for (std::size_t j = 0; j < atoms; ++j) codes.push_back(std::copysign(0x1p-8, product(j, x.data() + p * n)));
    for (std::size_t j = 0; j < atoms; ++j)
      for (std::size_t i = 0; i < n; ++i) r[i] -= d[j * n + i] * codes[p * atoms + j];
    for (std::size_t j = 0; j < atoms; ++j) wanted.push_back(product(j, r.data()) - kRidge * codes[p * atoms + j]);
  }
  if (!context.is_cuda()) return wanted;
  Arena counting(context.device());
  ActiveSets::lay_out(counting, atoms, places);
  Arena arena(context, counting.used());
  const ActiveSets sets = ActiveSets::lay_out(arena, atoms, places);
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(atoms * places));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::int32_t>(i) % atoms;
  const Tensor<std::int32_t> list(context, places);
  copy(context, VectorView<const std::int32_t>{numbers.data(), atoms * places, {}},
       VectorView<std::int32_t>{sets.atom.data, atoms * places, context.device()});
  copy(context, VectorView<const double>{codes.data(), atoms * places, {}},
       VectorView<double>{sets.code.data, atoms * places, context.device()});
  copy(context, VectorView<const std::int32_t>{numbers.data(), places, {}}, list.vector());
  const auto weights = constant(context, atoms / group_size, 0.5), lambda = constant(context, places, 2.0);
  const auto counts = constant(context, places, static_cast<std::int32_t>(atoms));
  const auto start_sets = group_size > 1 ? start_group_sets : start_active_sets;
  start_sets(context, D.matrix(), {}, X.matrix(), list.vector(), lambda.vector(), counts.vector(), sets,
             {weights.vector(), kRidge, false, group_size});
  std::vector<double> found(wanted.size());
  copy(context, VectorView<const double>{sets.correlation.data, atoms * places, context.device()},
       VectorView<double>{found.data(), atoms * places, {}});
  context.synchronize();
  return found;
}

std::vector<double> start(const Context& context) {
  return start_of(context, 1);
}

std::vector<double> group_start(const Context& context) {
  return start_of(context, 3);
}

/// Two rounds of the working-set method: lambda at half of lambda_max, and what the first round has added once more.
std::vector<double> look(const Context& context) {
  const auto D = integers<double>(context, n, m, 1), X = integers<double>(context, n, N, 2);
  const auto correlations = magnitudes(host(context, D), host(context, X), n);
  std::vector<double> wanted;
  for (std::int64_t b = 0; b < N; ++b)
    wanted.push_back(*std::max_element(correlations.begin() + b * m, correlations.begin() + (b + 1) * m) / 2);
  if (!context.is_cuda()) return wanted;
  Arena counting(context.device());
  ActiveSets::lay_out(counting, m, N);
  WorkingSetProblems::lay_out(counting, n, N);
  Arena arena(context, counting.used());
  const ActiveSets sets = ActiveSets::lay_out(arena, m, N);
  const WorkingSetProblems problems = WorkingSetProblems::lay_out(arena, n, N);
  std::vector<std::int32_t> numbers(N);
  std::iota(numbers.begin(), numbers.end(), 0);
  const Tensor<std::int32_t> list(context, N);
  copy(context, VectorView<const std::int32_t>{numbers.data(), N, {}}, list.vector());
  admit_problems(context, X.matrix(), list.vector(), constant(context, N, -1.0).vector(), 1, problems, sets);
  const HalfColumns half = half_columns(context, D);
  HalfColumns residuals(context, n, N);
  const Tensor<std::uint32_t> keys(context, (m + kPanelAtoms - 1) / kPanelAtoms, N);
  LookRules rules;
  rules.fraction = 0.5;
  rules.atom_norm = 18;  // 4 sqrt(20)
  rules.max_iterations = 100;
  for (int round = 0; round < 3; ++round) {
    residuals.set(context, problems.r, list.vector());
    panel_bounds(context, half, residuals, N, keys.matrix());
    look_at_bounds(context, D.matrix(), half, residuals, keys.matrix(), list.vector(), rules, problems, sets);
    add_atoms(context, D.matrix(), {}, problems.r, list.vector(), problems.fresh, problems.fresh_count, sets);
    solve_active_sets(context, list.vector(), problems.lambda, problems.tolerance, 20, sets);
    update_residuals(context, D.matrix(), list.vector(), problems, sets);
  }
  std::vector<double> lambda(N), scale(N);
  copy(context, problems.lambda, VectorView<double>{lambda.data(), N, {}});
  copy(context, problems.scale, VectorView<double>{scale.data(), N, {}});
  context.synchronize();
  for (std::size_t b = 0; b < N; ++b) lambda[b] *= scale[b];
  return lambda;
}

/// A look at groups that take several panels each: half of lambda_max.
std::vector<double> group_look(const Context& context) {
  constexpr std::int64_t s = 12, groups = 200, atoms = groups * s, places = 2;
  const auto D = integers<double>(context, n, atoms, 1), X = integers<double>(context, n, places, 2);
  const auto correlations = magnitudes(host(context, D), host(context, X), n);
  std::vector<double> wanted(places, 0.0);
  for (std::int64_t b = 0; b < places; ++b) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const double* const c = correlations.data() + b * atoms + g * s;
      wanted[static_cast<std::size_t>(b)] =
          std::max(wanted[static_cast<std::size_t>(b)], std::sqrt(std::inner_product(c, c + s, c, 0.0)) / 2);
    }
  }
  if (!context.is_cuda()) return wanted;
  Arena counting(context.device());
  ActiveSets::lay_out(counting, atoms, places);
  WorkingSetProblems::lay_out(counting, n, places, s);
  Arena arena(context, counting.used());
  const ActiveSets sets = ActiveSets::lay_out(arena, atoms, places);
  const WorkingSetProblems problems = WorkingSetProblems::lay_out(arena, n, places, s);
  const std::vector<std::int32_t> numbers{0, 1};
  const Tensor<std::int32_t> list(context, places);
  copy(context, VectorView<const std::int32_t>{numbers.data(), places, {}}, list.vector());
  admit_problems(context, X.matrix(), list.vector(), constant(context, places, -1.0).vector(), 1, problems, sets);
  std::vector<std::int32_t> from(static_cast<std::size_t>(groups * group_columns(s)), -1);
  for (std::int64_t j = 0; j < atoms; ++j)
    from[static_cast<std::size_t>(j / s * group_columns(s) + j % s)] = static_cast<std::int32_t>(j);
  const auto columns = static_cast<std::int64_t>(from.size());
  const Tensor<std::int32_t> given(context, columns);
  copy(context, VectorView<const std::int32_t>{from.data(), columns, {}}, given.vector());
  HalfColumns half(context, n, columns), residuals(context, n, places);
  half.set(context, D.matrix(), given.vector());
  residuals.set(context, problems.r, list.vector());
  const Tensor<std::uint32_t> keys(context, columns / kPanelAtoms, places);
  panel_bounds(context, half, residuals, places, keys.matrix(), {{}, false, group_columns(s)});
  LookRules rules;
  rules.fraction = 0.5;
  rules.atom_norm = 18;  // 4 sqrt(20)
  PenaltyView<double> penalty;
  penalty.group_size = s;
  look_at_bounds(context, D.matrix(), half, residuals, keys.matrix(), list.vector(), rules, problems, sets, penalty);
  std::vector<double> lambda(places), scale(places);
  copy(context, problems.lambda, VectorView<double>{lambda.data(), places, {}});
  copy(context, problems.scale, VectorView<double>{scale.data(), places, {}});
  context.synchronize();
  for (std::size_t b = 0; b < places; ++b) lambda[b] *= scale[b];
  return lambda;
}

std::vector<double> non_finite(const Context& context) {
  const auto values = constant(context, n * m, std::numeric_limits<float>::infinity());
  const auto total = constant(context, 1, std::int64_t{0});
  count_non_finite<float>(context, {values.data(), n, m, n, context.device()}, total.vector());
  return host(context, total);
}

int run(const std::string& name) {
  const std::map<std::string, std::function<std::vector<double>(const Context&)>> operations = {
      {"residual", residual},
      {"step", step},
      {"iterations", iterations},
      {"step_network", step_network},
      {"free_network", free_network},
      {"coupled_network", coupled_network},
      {"momentum_network", momentum_network},
      {"code_residual", residual_of_codes},
      {"correlation", correlation},
      {"gap", gap},
      {"group_step", step_of_groups},
      {"group_correlation", group_correlation},
      {"group_gap", group_gap},
      {"norm", norm},
      {"adam", adam},
      {"exact_momentum", exact_momentum},
      {"exact_range", exact_range},
      {"non_finite", non_finite},
      {"panel", panel},
      {"sets", sets},
      {"groups", groups},
      {"start", start},
      {"group_start", group_start},
      {"look", look},
      {"group_look", group_look},
      {"linear", linear}};
  const auto operation = operations.find(name);
  if (operation == operations.end()) {
    std::fprintf(stderr, "operations: found the name '%s', wanted another\n", name.c_str());
    return 2;
  }
  const std::vector<double> found = operation->second(Context::cuda());
  const std::vector<double> wanted = operation->second(Context::cpu(1));
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    // The gap alone has divisions, a few roundings of 1e-16 each.
    if (std::fabs(found[i] - wanted[i]) <= 1e-12 * std::fabs(wanted[i])) continue;
    std::printf("wrong result: element %zu is %g, wanted %g\n", i, found[i], wanted[i]);
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace shrinkwarp

int main(int argc, char** argv) {
  return shrinkwarp::run(argc == 2 ? argv[1] : "");
}
