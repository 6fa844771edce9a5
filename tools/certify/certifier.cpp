#include <shrinkwarp/tools/certify/certifier.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>

// One body of the product for each level of the processor, picked at load time. Sanitizers do not run before the
// resolvers of such functions do; they get the baseline body.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define SHRINKWARP_CERTIFY_CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define SHRINKWARP_CERTIFY_CLONES
#endif

namespace shrinkwarp::certify {
namespace {

using Extended = long double;
static_assert(std::numeric_limits<Extended>::digits == 64 || std::numeric_limits<Extended>::digits == 113,
              "the bounds are written for an extended or quadruple precision that rounds every operation correctly");
constexpr Extended kUnit = std::numeric_limits<Extended>::epsilon() / 2;
constexpr Extended kUnit64 = std::numeric_limits<double>::epsilon() / 2;
/// Bounds are themselves computed in fewer than 100 roundings of extended precision, or 10 of float64.
constexpr Extended kMargin = 1 + 1e-9L;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr double kRadiusSlack = 1e-9;  // by which rounding may have brought a code out of its radius
constexpr std::int64_t kRows = 32;     // problems of a panel
constexpr std::int64_t kTile = 512;    // atoms whose correlations are looked at together: 128 KiB

/// Higham's gamma_k: k roundings of unit roundoff u change a product by this factor at most, and a sum of k terms by this
/// times the sum of their magnitudes, in any order, with fused multiply-adds or without.
Extended gamma(std::int64_t k, Extended u = kUnit) {
  const Extended ku = static_cast<Extended>(k) * u;
  return ku / (1 - ku) * kMargin;
}

/// The least double that is not under `value`.
double above(Extended value) {
  const auto nearest = static_cast<double>(value);
  return nearest < value ? std::nextafter(nearest, kInfinity) : nearest;
}

struct Product {
  Extended sum = 0;
  Extended magnitude = 0;  // sum of |a_i b_i|
};
/// Within gamma(n) magnitude of the exact <a, b>; nothing under- or overflows, whatever the doubles.
Product product(const double* a, const double* b, std::int64_t n) {
  Extended sum[4] = {}, magnitude[4] = {};  // four chains of additions run side by side
  std::int64_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int k = 0; k < 4; ++k) {
      const Extended term = static_cast<Extended>(a[i + k]) * b[i + k];
      sum[k] += term;
      magnitude[k] += std::fabs(term);
    }
  }
  for (; i < n; ++i) {
    const Extended term = static_cast<Extended>(a[i]) * b[i];
    sum[0] += term;
    magnitude[0] += std::fabs(term);
  }
  return {(sum[0] + sum[1]) + (sum[2] + sum[3]), (magnitude[0] + magnitude[1]) + (magnitude[2] + magnitude[3])};
}

/// C[j][b] = sum_i D[j][i] R[i][b] for `atoms` columns of D and the kRows problems of a panel.
/// Four atoms by eight problems are held in registers; a vector of four is one of AVX2 and two of SSE2.
SHRINKWARP_CERTIFY_CLONES void correlate(const double* D, std::int64_t ld, std::int64_t n, std::int64_t atoms,
                                         const double* R, double* C) {
  typedef double Four __attribute__((vector_size(32)));
  for (std::int64_t j = 0; j < atoms; j += 4) {
    // Past the last atom the last one is repeated, and not stored.
    const double* d0 = D + j * ld;
    const double* d1 = D + std::min(j + 1, atoms - 1) * ld;
    const double* d2 = D + std::min(j + 2, atoms - 1) * ld;
    const double* d3 = D + std::min(j + 3, atoms - 1) * ld;
    for (std::int64_t b = 0; b < kRows; b += 8) {
      Four a0{}, a1{}, a2{}, a3{}, e0{}, e1{}, e2{}, e3{};
      for (std::int64_t i = 0; i < n; ++i) {
        Four r, s;
        std::memcpy(&r, R + i * kRows + b, sizeof(r));
        std::memcpy(&s, R + i * kRows + b + 4, sizeof(s));
        a0 += d0[i] * r, e0 += d0[i] * s;
        a1 += d1[i] * r, e1 += d1[i] * s;
        a2 += d2[i] * r, e2 += d2[i] * s;
        a3 += d3[i] * r, e3 += d3[i] * s;
      }
      const Four sums[] = {a0, e0, a1, e1, a2, e2, a3, e3};
      for (std::int64_t a = 0; a < std::min<std::int64_t>(4, atoms - j); ++a)
        std::memcpy(C + (j + a) * kRows + b, &sums[2 * a], 2 * sizeof(Four));
    }
  }
}

}  // namespace

void CodeRows::clear() {
  offsets.assign(1, 0);
  indices.clear();
  values.clear();
}

/// Up to kRows problems on their way through the dictionary, owned by one thread.
struct Certifier::Panel {
  struct Candidate {
    std::int64_t atom;  // or a group's first
    double bound;       // of its correlation's magnitude
  };
  /// Of the group that a pass is in; sums of squares.
  struct Group {
    Extended correlation = 0, error = 0;  // of float64's correlations, and of what they may be off by
    Extended z_norm = 0;                  // ||z_g||
    Extended distance = 0;                // of correlations over the weight from lambda z_g / ||z_g||
    Extended along = 0;                   // <D_g'r, z_g> / ||z_g||
  };
  struct Row {
    double norm_bound = 0;  // >= ||r||
    // The code, for the optimality conditions; none in search of lambda_max.
    const std::int64_t* indices = nullptr;
    const double* values = nullptr;
    std::int64_t nonzeros = 0;
    double lambda = 0;
    // What the ridge takes from correlations: z, of unpenalised atoms another.
    std::vector<std::int64_t> ridge_indices;
    std::vector<double> ridge_values;
    double ridge_bound = 0;  // >= ridge |z_j|
    Extended repair = 0;
    // Results.
    Extended largest = 0;        // ||D'r||_inf
    Extended low = 0, high = 0;  // it is between them
    double support_violation = 0;
    std::int64_t sign_errors = 0;
    // Between tiles.
    double least = 0;  // some correlation is at least so large
    std::vector<Candidate> candidates;
    std::int64_t seen = 0;  // nonzeros of the tiles so far
    Group group;
    std::size_t ridge_seen = 0;
    Extended ridge_value(std::int64_t atom) const {
      const auto at = std::lower_bound(ridge_indices.begin(), ridge_indices.end(), atom);
      return at != ridge_indices.end() && *at == atom
                 ? ridge_values[static_cast<std::size_t>(at - ridge_indices.begin())]
                 : 0.0;
    }
  };

  explicit Panel(std::int64_t n)
      : R(static_cast<std::size_t>(n * kRows)),
        r(static_cast<std::size_t>(n)),
        C(static_cast<std::size_t>(kTile * kRows)) {}

  /// The n numbers that row b correlates with the atoms.
  void set(std::int64_t b, const double* values, std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) R[static_cast<std::size_t>(i * kRows + b)] = values[i];
    Row& row = rows[static_cast<std::size_t>(b)];
    row = Row{};
    row.norm_bound = above(std::sqrt(product(values, values, n).sum * (1 + gamma(n))) * kMargin);
    if (row.norm_bound == 0) row.least = kInfinity;  // no candidates: every correlation is exactly 0
  }

  std::int64_t count = 0;  // rows in use; what the others hold is not looked at
  std::vector<double> R;   // [n][kRows]
  std::vector<double> r;   // [n], one row
  std::vector<double> C;   // [kTile][kRows]
  Row rows[kRows];
};

Certifier::Certifier(const Context& context, MatrixView<const double> D, Penalty penalty)
    : D_(D), penalty_(std::move(penalty)), norms_(static_cast<std::size_t>(std::max<std::int64_t>(D.cols, 0))) {
  SHRINKWARP_REQUIRE(!context.is_cuda() && D.device == context.device(), DeviceError, "Certifier: the context is on ",
                     context.device(), " and D on ", D.device, ", wanted the CPU");
  SHRINKWARP_REQUIRE(D.rows >= 1 && D.cols >= 1 && D.ld >= D.rows, ShapeError, "Certifier: D is ", D.rows, " x ",
                     D.cols, " with ld ", D.ld, ", wanted at least 1 x 1 and ld >= rows");
  const Extended growth = (1 + gamma(D.rows)) * kMargin;
  context.parallel_for(D.cols, [&](std::int64_t j, int) {
    norms_[static_cast<std::size_t>(j)] = above(std::sqrt(product(D.column(j), D.column(j), D.rows).sum * growth));
  });
  SHRINKWARP_REQUIRE(penalty_.ridge >= 0 && std::isfinite(penalty_.ridge), ValueError, "the ridge is ", penalty_.ridge,
                     ", wanted a finite number >= 0");
  const std::int64_t size = penalty_.group_size;
  SHRINKWARP_REQUIRE(size >= 1, ValueError, "the group size is ", size, ", wanted >= 1");
  SHRINKWARP_REQUIRE(D.cols % size == 0, ShapeError, "the dictionary has ", D.cols,
                     " atoms, wanted a multiple of the group size, ", size);
  SHRINKWARP_REQUIRE(size == 1 || !penalty_.nonnegative, ValueError, "the group size is ", size,
                     ", wanted 1 where codes are to be nonnegative");
  const std::string one = size > 1 ? "group" : "atom";
  SHRINKWARP_REQUIRE(penalty_.weights.empty() || static_cast<std::int64_t>(penalty_.weights.size()) == D.cols / size,
                     ShapeError, penalty_.name, ": found ", penalty_.weights.size(),
                     " weights, wanted one for each of ", D.cols / size, " ", one, "s");
  SHRINKWARP_REQUIRE(penalty_.radius < 0 || (std::isfinite(penalty_.radius) && penalty_.ridge == 0), ValueError,
                     "found a radius of ", penalty_.radius, " with a ridge of ", penalty_.ridge,
                     ", wanted a finite radius and no ridge with it");
  for (std::int64_t g = 0; g < D.cols / size; ++g) {
    const double w = weight(g * size);
    SHRINKWARP_REQUIRE(w > 0 || penalty_.radius < 0, ValueError, penalty_.name, ": the weight of ", one, " ", g, " is ",
                       w, ", wanted > 0 with a radius");
    SHRINKWARP_REQUIRE(w >= 0, ValueError, penalty_.name, ": the weight of ", one, " ", g, " is ", w,
                       ", wanted a number >= 0 or infinity");
    SHRINKWARP_REQUIRE(w > 0 || !penalty_.nonnegative, ValueError, penalty_.name, ": the weight of ", one, " ", g,
                       " is 0, wanted > 0 where codes are to be nonnegative");
    if (w == 0) continue;
    Extended square = 0;  // >= ||D_g||_F^2
    for (std::int64_t j = g * size; j < (g + 1) * size; ++j)
      square += static_cast<Extended>(norms_[static_cast<std::size_t>(j)]) * norms_[static_cast<std::size_t>(j)];
    largest_norm_ = std::max(largest_norm_, above(std::sqrt(square * (1 + gamma(size + 2))) * kMargin / w));
  }
  prepare_free();
}

/// Chooses the atoms of free_, and bounds ||G^-1|| without trusting how it was computed: with R near G^-1,
/// ||G^-1|| <= ||R|| / (1 - ||I - R G||).
void Certifier::prepare_free() {
  const std::int64_t n = rows();
  Extended whole = 0;  // >= ||D_0||_F^2 + k ridge
  for (std::int64_t j = 0; j < atoms(); ++j) {
    if (weight(j) > 0) continue;
    const double* const d = D_.column(j);
    const bool copied = penalty_.ridge == 0 && std::any_of(free_.begin(), free_.end(), [&](std::int64_t i) {
                          return std::equal(d, d + n, D_.column(i));
                        });
    const bool empty = norms_[static_cast<std::size_t>(j)] == 0 && penalty_.ridge == 0;
    if (copied || empty) continue;  // nothing correlates with it that does not with the other
    free_.push_back(j);
    whole += static_cast<Extended>(norms_[static_cast<std::size_t>(j)]) * norms_[static_cast<std::size_t>(j)] +
             penalty_.ridge;
  }
  const auto k = static_cast<std::int64_t>(free_.size());
  if (k == 0) return;
  const auto at = [k](std::int64_t i, std::int64_t j) { return static_cast<std::size_t>(i + j * k); };
  const auto refuse = [&](std::int64_t i) {
    SHRINKWARP_THROW(ValueError, penalty_.name, ": atom ", free_[static_cast<std::size_t>(i)],
                     " depends on the other atoms of weight 0, wanted atoms of which extended precision can tell that "
                     "they are independent, or exact copies");
  };
  std::vector<Extended> G(static_cast<std::size_t>(k * k)), L(static_cast<std::size_t>(k * k));
  inverse_.assign(static_cast<std::size_t>(k * k), 0);
  for (std::int64_t j = 0; j < k; ++j)
    for (std::int64_t i = j; i < k; ++i)
      G[at(i, j)] = G[at(j, i)] =
          product(D_.column(free_[static_cast<std::size_t>(i)]), D_.column(free_[static_cast<std::size_t>(j)]), n).sum +
          (i == j ? static_cast<Extended>(penalty_.ridge) : 0);
  for (std::int64_t j = 0; j < k; ++j) {  // Cholesky
    Extended pivot = G[at(j, j)];
    for (std::int64_t l = 0; l < j; ++l) pivot -= L[at(j, l)] * L[at(j, l)];
    if (!(pivot > 0)) refuse(j);
    L[at(j, j)] = std::sqrt(pivot);
    for (std::int64_t i = j + 1; i < k; ++i) {
      Extended sum = G[at(i, j)];
      for (std::int64_t l = 0; l < j; ++l) sum -= L[at(i, l)] * L[at(j, l)];
      L[at(i, j)] = sum / L[at(j, j)];
    }
  }
  for (std::int64_t c = 0; c < k; ++c) {  // columns of the inverse
    Extended* const column = inverse_.data() + c * k;
    for (std::int64_t i = c; i < k; ++i) {
      Extended sum = i == c ? 1 : 0;
      for (std::int64_t l = c; l < i; ++l) sum -= L[at(i, l)] * column[l];
      column[i] = sum / L[at(i, i)];
    }
    for (std::int64_t i = k - 1; i >= 0; --i) {
      Extended sum = column[i];
      for (std::int64_t l = i + 1; l < k; ++l) sum -= L[at(l, i)] * column[l];
      column[i] = sum / L[at(i, i)];
    }
  }
  Extended off = 0, size = 0;  // ||I - R G||_F^2 as computed, ||R||_F^2
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < k; ++j) {
      Extended sum = i == j ? 1 : 0;
      for (std::int64_t l = 0; l < k; ++l) sum -= inverse_[at(i, l)] * G[at(l, j)];
      off += sum * sum;
      size += inverse_[at(i, j)] * inverse_[at(i, j)];
    }
  }
  // Its own rounding, and that of G: ||  |D_0|'|D_0| ||_F <= ||D_0||_F^2, and ||G||_F likewise.
  const Extended norm = std::sqrt(size) * (1 + gamma(k * k + 2));
  const Extended distance =
      std::sqrt(off) * (1 + gamma(k * k + 2)) + norm * whole * (gamma(k + 2) + gamma(n + 2)) * kMargin;
  if (!(distance < 0.5L)) refuse(k - 1);
  inverse_norm_ = norm / (1 - distance) * kMargin;
}

/// Takes from [r; -sqrt(ridge) v] what unpenalised atoms explain: r changes, and free_code, v at free_. `before` is the
/// largest correlation of these atoms; `repair` bounds how far the result, rounded to float64, is from vectors that they do
/// not correlate with.
void Certifier::free_residual(std::vector<Extended>& r, std::vector<double>& free_code, Extended& before,
                              Extended& repair) const {
  const auto k = static_cast<std::int64_t>(free_.size());
  const std::int64_t n = rows();
  std::vector<double> rounded(static_cast<std::size_t>(n));
  std::vector<Extended> correlation(static_cast<std::size_t>(k));
  const Extended ridge = penalty_.ridge;
  for (int time = 0;; ++time) {  // twice, for what rounding leaves; then only what is left is looked at
    for (std::size_t i = 0; i < rounded.size(); ++i) {
      rounded[i] = static_cast<double>(r[i]);
      r[i] = rounded[i];
    }
    Extended square = 0;  // >= the square of the correlations' norm
    for (std::int64_t a = 0; a < k; ++a) {
      const auto at = static_cast<std::size_t>(a);
      const Product found = product(D_.column(free_[at]), rounded.data(), n);
      const Extended shrunk = ridge * free_code[at];
      correlation[at] = found.sum - shrunk;
      const Extended error = gamma(n) * found.magnitude + 4 * kUnit * (std::fabs(found.sum) + std::fabs(shrunk));
      const Extended most = std::fabs(correlation[at]) + error;
      square += most * most;
      if (time == 0) before = std::max(before, std::fabs(correlation[at]));
    }
    repair = std::sqrt(square * inverse_norm_) * (1 + gamma(k + 4)) * kMargin;
    if (time == 2) return;
    for (std::int64_t a = 0; a < k; ++a) {
      Extended step = 0;
      for (std::int64_t b = 0; b < k; ++b)
        step += inverse_[static_cast<std::size_t>(a + b * k)] * correlation[static_cast<std::size_t>(b)];
      const auto at = static_cast<std::size_t>(a);
      free_code[at] = static_cast<double>(free_code[at] + step);
      const double* const d = D_.column(free_[at]);
      for (std::int64_t i = 0; i < n; ++i) r[static_cast<std::size_t>(i)] -= step * d[i];
    }
  }
}

/// What float64's correlations of `count` atoms from `tile` on, which lie in panel.C, tell of them: which may be the largest.
void Certifier::look_at_atoms(Panel& panel, std::int64_t tile, std::int64_t count) const {
  const auto relative =
      static_cast<double>(gamma(rows() + 8, kUnit64) * kMargin);  // 8: penalty and comparisons round as well
  const double underflow = static_cast<double>(rows() + 8) * std::numeric_limits<double>::denorm_min();
  for (std::int64_t t = 0; t < count; ++t) {
    const double norm = norms_[static_cast<std::size_t>(tile + t)];
    const double w = weight(tile + t);
    if (!(w > 0 && w < kInfinity)) continue;  // unpenalised, or left out
    for (std::int64_t b = 0; b < panel.count; ++b) {
      Panel::Row& row = panel.rows[b];
      const double value = panel.C[static_cast<std::size_t>(t * kRows + b)] / w;
      const double size = penalty_.nonnegative ? value : std::fabs(value);
      const double error = (relative * (norm * row.norm_bound + row.ridge_bound) + underflow) / w;
      // What overflowed tells nothing: it stays a candidate and excludes no other.
      if (size + error < row.least) continue;
      row.candidates.push_back({tile + t, size + error});
      if (size < kInfinity && error < kInfinity) row.least = std::max(row.least, size - error);
    }
  }
  for (std::int64_t b = 0; b < panel.count; ++b) {
    Panel::Row& row = panel.rows[b];
    for (; row.seen < row.nonzeros && row.indices[row.seen] < tile + count; ++row.seen) {
      const std::int64_t j = row.indices[row.seen];
      if (weight(j) == 0) continue;
      const double along = std::copysign(1.0, row.values[row.seen]) *
                           panel.C[static_cast<std::size_t>((j - tile) * kRows + b)] / weight(j);
      const double error =
          (relative * (norms_[static_cast<std::size_t>(j)] * row.norm_bound + row.ridge_bound) + underflow) / weight(j);
      row.support_violation = std::max(row.support_violation, std::fabs(along - row.lambda));
      if (along < -error) ++row.sign_errors;
    }
  }
}

/// The same in groups. Off by at most e_j each, correlations are off by sqrt(sum e_j^2) together.
void Certifier::look_at_groups(Panel& panel, std::int64_t tile, std::int64_t count) const {
  const std::int64_t size = penalty_.group_size;
  const auto relative = static_cast<double>(gamma(rows() + 8, kUnit64) * kMargin);
  const double underflow = static_cast<double>(rows() + 8) * std::numeric_limits<double>::denorm_min();
  const Extended rounding = gamma(size + 4);
  for (std::int64_t t = 0; t < count; ++t) {
    const std::int64_t j = tile + t;
    const double norm = norms_[static_cast<std::size_t>(j)], w = weight(j);
    for (std::int64_t b = 0; b < panel.count; ++b) {
      Panel::Row& row = panel.rows[b];
      Panel::Group& group = row.group;
      if (j % size == 0) {
        group = {};
        std::int64_t end = row.seen;
        while (end < row.nonzeros && row.indices[end] < j + size) ++end;
        for (std::int64_t k = row.seen; k < end; ++k)
          group.z_norm += static_cast<Extended>(row.values[k]) * row.values[k];
        group.z_norm = std::sqrt(group.z_norm);
      }
      const Extended value = panel.C[static_cast<std::size_t>(t * kRows + b)];
      const Extended error = relative * (norm * row.norm_bound + row.ridge_bound) + underflow;
      group.correlation += value * value;
      group.error += error * error;
      if (group.z_norm > 0) {
        const bool used = row.seen < row.nonzeros && row.indices[row.seen] == j;
        const Extended direction = used ? row.values[row.seen] / group.z_norm : 0;
        if (used) ++row.seen;
        const Extended distance = value / w - row.lambda * direction;
        group.distance += distance * distance;
        group.along += value * direction;
      }
      // The end of a group that is penalised and not left out.
      if ((j + 1) % size != 0 || !(w > 0 && w < kInfinity)) continue;
      const Extended found = std::sqrt(group.correlation);
      const Extended off = (std::sqrt(group.error) + rounding * found) * (1 + rounding) * kMargin;
      if (group.z_norm > 0) {
        row.support_violation = std::max(row.support_violation, static_cast<double>(std::sqrt(group.distance)));
        if (group.along < -off) ++row.sign_errors;
      }
      const double most = above((found + off) / w * kMargin), least = above((found - off) / w / kMargin);
      if (most < row.least) continue;
      row.candidates.push_back({j + 1 - size, most});
      if (most < kInfinity) row.least = std::max(row.least, least * (1 - 4 * std::numeric_limits<double>::epsilon()));
    }
  }
}

void Certifier::correlations(Panel& panel) const {
  const std::int64_t n = rows(), m = atoms();
  for (std::int64_t tile = 0; tile < m; tile += kTile) {
    const std::int64_t count = std::min(kTile, m - tile);
    correlate(D_.column(tile), D_.ld, n, count, panel.R.data(), panel.C.data());
    for (std::int64_t b = 0; b < panel.count && penalty_.ridge > 0; ++b) {
      Panel::Row& row = panel.rows[b];
      for (; row.ridge_seen < row.ridge_indices.size() && row.ridge_indices[row.ridge_seen] < tile + count;
           ++row.ridge_seen)
        panel.C[static_cast<std::size_t>((row.ridge_indices[row.ridge_seen] - tile) * kRows + b)] -=
            penalty_.ridge * row.ridge_values[row.ridge_seen];
    }
    if (grouped())
      look_at_groups(panel, tile, count);
    else
      look_at_atoms(panel, tile, count);
  }
  for (std::int64_t b = 0; b < panel.count; ++b) {
    Panel::Row& row = panel.rows[b];
    for (std::int64_t i = 0; i < n; ++i)
      panel.r[static_cast<std::size_t>(i)] = panel.R[static_cast<std::size_t>(i * kRows + b)];
    for (const Panel::Candidate& candidate : row.candidates) {
      if (candidate.bound < row.least) continue;
      const Extended w = weight(candidate.atom);
      Extended size = 0, error = 0;  // sums of squares, of more than one atom
      for (std::int64_t j = candidate.atom; j < candidate.atom + penalty_.group_size; ++j) {
        const Product exact = product(D_.column(j), panel.r.data(), n);
        const Extended norm = norms_[static_cast<std::size_t>(j)];
        const Extended shrunk = static_cast<Extended>(penalty_.ridge) * row.ridge_value(j);
        const Extended value = shrunk == 0 ? exact.sum : exact.sum - shrunk;
        Extended off = gamma(n) * exact.magnitude;
        if (shrunk != 0) off += 4 * kUnit * (std::fabs(exact.sum) + std::fabs(shrunk));
        if (row.repair > 0) off += std::sqrt(norm * norm + penalty_.ridge) * row.repair * kMargin;
        if (grouped()) {
          size += value * value;
          error += off * off;
        } else {
          size = penalty_.nonnegative ? value : std::fabs(value);
          error = off;
        }
      }
      if (grouped()) {
        const Extended rounding = gamma(penalty_.group_size + 4);
        size = std::sqrt(size);
        error = (std::sqrt(error) + rounding * size) * (1 + rounding) * kMargin;
      }
      row.largest = std::max(row.largest, size / w);
      row.low = std::max(row.low, (size - error) / w * (1 - 4 * kUnit));
      row.high = std::max(row.high, (size + error) / w * (1 + 4 * kUnit));
    }
  }
}

void Certifier::lambda_max(const Context& context, MatrixView<const double> X, VectorView<double> out) const {
  SHRINKWARP_REQUIRE(X.rows == rows() && X.cols == out.size, ShapeError, "Certifier::lambda_max: X is ", X.rows, " x ",
                     X.cols, " and out has ", out.size, ", wanted ", rows(), " rows and an element a column");
  std::vector<Panel> panels(static_cast<std::size_t>(context.threads()), Panel(rows()));
  context.parallel_for((X.cols + kRows - 1) / kRows, [&](std::int64_t block, int worker) {
    Panel& panel = panels[static_cast<std::size_t>(worker)];
    const std::int64_t begin = block * kRows;
    panel.count = std::min(kRows, X.cols - begin);
    for (std::int64_t b = 0; b < panel.count; ++b) {
      const double* const x = X.column(begin + b);
      panel.set(b, x, rows());
      if (free_.empty()) continue;
      std::vector<Extended> r(x, x + rows());
      std::vector<double> free_code(free_.size());
      Extended before = 0, repair = 0;
      free_residual(r, free_code, before, repair);
      const std::vector<double> rounded(r.begin(), r.end());
      const Extended left = product(rounded.data(), rounded.data(), rows()).sum, all = product(x, x, rows()).sum;
      panel.set(b, rounded.data(), rows());
      // Where all is explained, what is left is rounding.
      if (std::sqrt(left) <= 64 * kUnit64 * std::sqrt(all)) {
        const std::vector<double> nothing(rounded.size());
        panel.set(b, nothing.data(), rows());
      }
    }
    correlations(panel);
    for (std::int64_t b = 0; b < panel.count; ++b) out[begin + b] = static_cast<double>(panel.rows[b].largest);
  });
}

/// r = x - D z in extended precision: k products and k additions an element.
void Certifier::residual(const double* x, const std::int64_t* indices, const double* values, std::int64_t nonzeros,
                         Extended* r) const {
  const std::int64_t n = rows();
  std::int64_t i = 0;
  for (; i + 4 <= n; i += 4) {  // sums of four elements stay in registers
    Extended r0 = x[i], r1 = x[i + 1], r2 = x[i + 2], r3 = x[i + 3];
    for (std::int64_t k = 0; k < nonzeros; ++k) {
      const double* d = D_.column(indices[k]) + i;
      const Extended z = values[k];
      r0 -= z * d[0];
      r1 -= z * d[1];
      r2 -= z * d[2];
      r3 -= z * d[3];
    }
    r[i] = r0, r[i + 1] = r1, r[i + 2] = r2, r[i + 3] = r3;
  }
  for (; i < n; ++i) {
    Extended sum = x[i];
    for (std::int64_t k = 0; k < nonzeros; ++k) sum -= static_cast<Extended>(values[k]) * D_(i, indices[k]);
    r[i] = sum;
  }
}

/// sum_g w_g ||z_g||: a group of k nonzeros takes k + 2 roundings, and g groups g + 1 more; k + g <= nonzeros + 1.
Extended Certifier::weighted_norms(const std::int64_t* indices, const double* values, std::int64_t nonzeros) const {
  Extended sum = 0;
  for (std::int64_t k = 0; k < nonzeros;) {
    const std::int64_t group = indices[k] / penalty_.group_size;
    const double w = weight(indices[k]);
    Extended square = 0;
    for (; k < nonzeros && indices[k] / penalty_.group_size == group; ++k)
      square += static_cast<Extended>(values[k]) * values[k];
    sum += std::sqrt(square) * w;
  }
  return sum;
}

void Certifier::measure(const Context& context, MatrixView<const double> X, const CodeRows& Z,
                        VectorView<const double> lambda, std::int64_t first, Measures* out) const {
  const std::int64_t n = rows();
  SHRINKWARP_REQUIRE(X.rows == n && X.cols == Z.size() && X.cols == lambda.size, ShapeError,
                     "Certifier::measure: X is ", X.rows, " x ", X.cols, " for ", Z.size(), " codes and ", lambda.size,
                     " lambdas, wanted ", n, " rows and one of each a column");
  std::vector<Panel> panels(static_cast<std::size_t>(context.threads()), Panel(n));
  std::vector<std::vector<Extended>> residuals(panels.size(), std::vector<Extended>(static_cast<std::size_t>(n)));
  context.parallel_for((X.cols + kRows - 1) / kRows, [&](std::int64_t block, int worker) {
    Panel& panel = panels[static_cast<std::size_t>(worker)];
    std::vector<Extended>& r = residuals[static_cast<std::size_t>(worker)];
    const std::int64_t begin = block * kRows;
    panel.count = std::min(kRows, X.cols - begin);
    for (std::int64_t b = 0; b < panel.count; ++b) {
      const std::int64_t problem = begin + b, offset = Z.offsets[static_cast<std::size_t>(problem)];
      const std::int64_t nonzeros = Z.offsets[static_cast<std::size_t>(problem) + 1] - offset;
      const std::int64_t* indices = Z.indices.data() + offset;
      const double* values = Z.values.data() + offset;
      const double* x = X.column(problem);
      residual(x, indices, values, nonzeros, r.data());

      Measures& measures = out[problem] = Measures{};
      measures.nonzeros = nonzeros;
      measures.n_ = measures.dual_terms_ = n;
      measures.nonnegative_ = penalty_.nonnegative;
      measures.radius_ = penalty_.radius;
      measures.largest_column_ = largest_norm_;
      for (std::int64_t i = 0; i < n; ++i) {
        measures.residual_ += r[static_cast<std::size_t>(i)] * r[static_cast<std::size_t>(i)];
        const auto rounded = static_cast<double>(r[static_cast<std::size_t>(i)]);
        SHRINKWARP_REQUIRE(std::isfinite(rounded), ValueError, "the residual x - D z of problem ", first + problem,
                           " passes the range of float64, wanted codes in the units of the dictionary");
        panel.r[static_cast<std::size_t>(i)] = rounded;
      }
      for (std::int64_t k = 0; k < nonzeros; ++k) {
        const Extended size = std::fabs(static_cast<Extended>(values[k]));
        SHRINKWARP_REQUIRE(weight(indices[k]) < kInfinity, ValueError, "code ", first + problem, " has ", values[k],
                           " at atom ", indices[k], ", wanted 0 where the weight is infinite");
        SHRINKWARP_REQUIRE(values[k] > 0 || !penalty_.nonnegative, ValueError, "code ", first + problem, " has ",
                           values[k], " at atom ", indices[k], ", wanted numbers >= 0");
        if (!grouped()) measures.l1_ += penalty_.weights.empty() ? size : size * weight(indices[k]);
        if (penalty_.ridge > 0) measures.ridge_ += size * size;
        measures.column_sum_ += size * norms_[static_cast<std::size_t>(indices[k])];
      }
      if (grouped()) {
        measures.l1_ = weighted_norms(indices, values, nonzeros);
        measures.group_terms_ = penalty_.group_size + 4;
      }
      SHRINKWARP_REQUIRE(penalty_.radius < 0 || measures.l1_ <= penalty_.radius * (1 + kRadiusSlack), ValueError,
                         "code ", first + problem, " has an l1 norm of ", static_cast<double>(measures.l1_),
                         ", wanted at most the radius of ", penalty_.radius);
      measures.column_sum_ *= (1 + gamma(nonzeros + 1)) * kMargin;
      measures.ridge_ *= static_cast<Extended>(penalty_.ridge) / 2;
      measures.energy_ = product(x, x, n).sum;
      std::vector<double> free_code(free_.size(), 0.0);
      Extended free_correlation = 0;
      if (!free_.empty()) {
        for (std::size_t a = 0; a < free_.size(); ++a) {
          const auto* const found = std::lower_bound(indices, indices + nonzeros, free_[a]);
          if (found != indices + nonzeros && *found == free_[a]) free_code[a] = values[found - indices];
        }
        free_residual(r, free_code, free_correlation, measures.repair_);
        std::transform(r.begin(), r.end(), panel.r.begin(), [](Extended value) { return static_cast<double>(value); });
        measures.slack_factor_ = 16;  // a projection in float64, and z_0 from another
      }
      measures.dual_square_ = product(panel.r.data(), panel.r.data(), n).sum;
      measures.dual_product_ = product(x, panel.r.data(), n).sum;
      if (nonzeros > 0) {
        const Extended x_norm = std::sqrt(measures.energy_ * (1 + gamma(n)));
        measures.residual_error_ = gamma(nonzeros + 1) * (x_norm + measures.column_sum_) * kMargin;
      }

      panel.set(b, panel.r.data(), n);
      Panel::Row& row = panel.rows[b];
      row.indices = indices;
      row.values = values;
      row.nonzeros = nonzeros;
      row.lambda = lambda[problem];
      row.repair = measures.repair_;
      row.support_violation = static_cast<double>(free_correlation);
      if (penalty_.ridge > 0) {
        // z at penalised atoms, and at the others what took its place.
        std::vector<std::pair<std::int64_t, double>> shrunk;
        for (std::int64_t k = 0; k < nonzeros; ++k)
          if (weight(indices[k]) > 0) shrunk.emplace_back(indices[k], values[k]);
        for (std::size_t a = 0; a < free_.size(); ++a) shrunk.emplace_back(free_[a], free_code[a]);
        std::sort(shrunk.begin(), shrunk.end());
        Extended square = 0;
        for (const auto& [atom, value] : shrunk) {
          row.ridge_indices.push_back(atom);
          row.ridge_values.push_back(value);
          row.ridge_bound = std::max(row.ridge_bound, above(static_cast<Extended>(penalty_.ridge) * std::fabs(value)));
          square += static_cast<Extended>(value) * value;
        }
        measures.dual_square_ += static_cast<Extended>(penalty_.ridge) * square;
        measures.dual_terms_ += static_cast<std::int64_t>(shrunk.size()) + 2;
        // No atom correlates with 0 but by the ridge.
        if (row.norm_bound == 0) row.least = 0;
      }
    }
    correlations(panel);
    for (std::int64_t b = 0; b < panel.count; ++b) {
      const Panel::Row& row = panel.rows[b];
      Measures& measures = out[begin + b];
      measures.correlation_low_ = row.low;
      measures.correlation_high_ = row.high;
      measures.sign_errors = row.sign_errors;
      const Extended excess = std::max<Extended>(row.largest - row.lambda, 0);
      const Extended violation = std::max<Extended>(excess, row.support_violation);
      const auto over_lambda = [&](Extended value) {
        return value == 0 ? 0.0 : static_cast<double>(value / static_cast<Extended>(row.lambda));
      };
      measures.correlation_excess = over_lambda(excess);
      measures.kkt_violation = over_lambda(violation);
    }
  });
}

/// What certificates are made of, at one lambda.
struct Measures::Values {
  Extended objective, objective_error;
  Extended scale;  // s
  bool clipped;    // s is an end of the feasible interval
  Extended dual, dual_error;
  Extended lost;  // how much more a scale made from the exact ||D'r||_inf might give
};

Measures::Values Measures::values(double lambda) const {
  Values v{};
  const bool in_radius = radius_ >= 0;
  const Extended weight = in_radius ? 0 : lambda;
  const Extended penalty = weight * l1_;
  v.objective = residual_ / 2 + penalty + ridge_;
  v.objective_error =
      kMargin * (gamma(n_ + 1) * residual_ / 2 + gamma(nonzeros + (group_terms_ > 0 ? 4 : 2)) * penalty +
                 gamma(nonzeros + 3) * ridge_ + 2 * kUnit * v.objective +
                 std::sqrt(residual_ * (1 + gamma(n_ + 1))) * residual_error_ + residual_error_ * residual_error_ / 2);
  const Extended toll = in_radius ? radius_ * correlation_high_ * (1 + 2 * kUnit) : 0;
  if (in_radius && dual_square_ > 0) v.scale = std::max<Extended>(dual_product_ - toll, 0) / dual_square_;
  if (!in_radius && dual_square_ > 0) {
    Extended top = dual_product_ / dual_square_;
    if (nonnegative_) top = std::max<Extended>(top, 0);
    // Division and multiplication round: four units keep |s| ||D'r||_inf <= lambda.
    const Extended limit =
        correlation_high_ > 0 ? weight / correlation_high_ * (1 - 4 * kUnit) : static_cast<Extended>(kInfinity);
    v.clipped = std::fabs(top) > limit;
    v.scale = v.clipped ? std::copysign(limit, top) : top;
  }
  const Extended linear = v.scale * (dual_product_ - toll), square = v.scale * v.scale * dual_square_;
  v.dual = linear - square / 2;
  // |<x, r>| is at most ||x|| ||r||, and so are the magnitudes that its sum is made of.
  v.dual_error =
      kMargin * (gamma(n_) * std::fabs(v.scale) * std::sqrt(energy_ * dual_square_) + gamma(dual_terms_) * square / 2 +
                 4 * kUnit * (std::fabs(v.scale * dual_product_) + v.scale * toll + square));
  // The feasible point is not s r but one so near to it, and Dual no steeper between them.
  const Extended repair = std::fabs(v.scale) * repair_;
  v.dual_error += kMargin * repair * (std::sqrt(energy_) + std::fabs(v.scale) * std::sqrt(dual_square_) + repair);
  if (in_radius && dual_square_ > 0) {
    // With the exact ||D'r||_inf the top is no further than `end`, and the value there higher by no more than this.
    const Extended end = std::max<Extended>(dual_product_ - radius_ * correlation_low_, 0) / dual_square_;
    v.lost = kMargin * (end * radius_ * (correlation_high_ - correlation_low_) * (1 + 4 * kUnit) + v.dual_error);
  }
  if (v.clipped) {
    // Dual is concave along the line: from s on it rises no faster than at s, and not past its top.
    const Extended size = std::fabs(v.scale), top = std::fabs(dual_product_) / dual_square_;
    const Extended end = correlation_low_ > 0 ? std::min(weight / correlation_low_ * (1 + 4 * kUnit), top) : top;
    v.lost =
        kMargin * (std::max<Extended>(std::fabs(dual_product_) - size * dual_square_, 0) * (end - size) + v.dual_error);
  }
  return v;
}

Certificate Measures::at(double lambda) const {
  const Values v = values(lambda);
  const Extended gap = v.objective - v.dual;
  const Extended error = kMargin * (v.objective_error + v.dual_error + kUnit * std::fabs(gap));
  // The gap of exact arithmetic is >= 0, so this is one even if rounding made `gap` negative.
  const Extended bound = std::max<Extended>((gap + error) * (1 + 2 * kUnit), 0);
  Certificate certificate;
  certificate.energy = static_cast<double>(energy_ / 2);
  certificate.objective = static_cast<double>(v.objective);
  certificate.objective_rounding =
      above(kMargin * (v.objective_error + std::fabs(v.objective - certificate.objective)));
  certificate.dual_gap = above(bound);
  certificate.rounding = above((certificate.dual_gap - bound + 2 * error + v.lost) * kMargin);
  const Extended energy = energy_ / 2 * (1 - gamma(n_ + 2));
  certificate.relative_gap = energy > 0 ? above(bound / energy * (1 + 2 * kUnit)) : bound > 0 ? kInfinity : 0;
  return certificate;
}

Float64Slack Measures::float64_slack(double lambda) const {
  const Values v = values(lambda);
  const auto lost = [](std::int64_t roundings) { return gamma(roundings, kUnit64); };
  const Extended x = std::sqrt(energy_), r = std::sqrt(residual_), size = std::fabs(v.scale);
  const Extended radius = std::max(radius_, 0.0);
  const Extended penalty = (radius_ >= 0 ? 0 : static_cast<Extended>(lambda) * l1_) + ridge_;
  // Of the residual, of the objective, of ||D'r||_inf, of the scale and of the dual value, in this order.
  const Extended of_r = lost(nonzeros + 1) * (x + column_sum_) + lost(1) * r;
  const Extended of_objective = lost(n_ + 2) * r * r / 2 + r * of_r + of_r * of_r / 2 +
                                lost(nonzeros + (group_terms_ > 0 ? 5 : 3)) * penalty + lost(1) * v.objective;
  const Extended of_correlation = largest_column_ * (lost(n_) * r + of_r) + lost(group_terms_) * correlation_high_;
  Extended of_scale = lost(2 * n_ + 4) * size;
  if (v.clipped && correlation_high_ > 0) of_scale += size * of_correlation / correlation_high_;
  if (!v.clipped && r > 0) of_scale += ((x + 2 * size * r) * of_r + radius * of_correlation) / (r * r);
  const Extended slope = std::fabs(dual_product_ - radius * correlation_high_ - v.scale * dual_square_);
  const Extended of_dual = size * (lost(n_ + 3) * x * r + x * of_r) + size * size * (lost(n_ + 4) * r * r + r * of_r) +
                           size * radius * (of_correlation + lost(2) * correlation_high_) + slope * of_scale +
                           r * r * of_scale * of_scale;
  return {above(slack_factor_ * of_objective * kMargin), above(slack_factor_ * (of_objective + of_dual) * kMargin)};
}

}  // namespace shrinkwarp::certify
