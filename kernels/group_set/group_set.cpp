#include <shrinkwarp/kernels/group_set/group_set.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <shrinkwarp/kernels/active_set/active_set_loops.hpp>
#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/common/checks.hpp>
#include <shrinkwarp/kernels/common/highway_targets.hpp>
#include <shrinkwarp/kernels/gemm/single_threaded_blas.hpp>
#include <shrinkwarp/kernels/group_set/group_rules.hpp>
#include <shrinkwarp/runtime/error.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/group_set/group_set_cpu_simd.hpp"
#include <hwy/foreach_target.h>  // includes the loops once for each other instruction set
#include <shrinkwarp/kernels/group_set/group_set_cpu_simd.hpp>

extern "C" {
// LAPACK: eigenvalues ascending in w and, with jobz = 'V', eigenvectors in a.
void dsyev_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w, double* work,
            const int* lwork, int* info);
}

namespace shrinkwarp {
namespace cpu {
namespace {

HWY_EXPORT(FactorLoopsOf);

const FactorLoops& factor_loops() {
  static const FactorLoops chosen = HWY_DYNAMIC_DISPATCH(FactorLoopsOf)();
  return chosen;
}

}  // namespace
}  // namespace cpu

namespace {

constexpr double kUnit = std::numeric_limits<double>::epsilon();
std::int64_t padded(std::int64_t size) {
  return (size + GroupSet::kPadding - 1) / GroupSet::kPadding * GroupSet::kPadding;
}

// Columns an odd number of cache lines apart: at powers of two they would all want the same few sets of the cache.
std::int64_t leading(std::int64_t size) {
  const std::int64_t whole = padded(size);
  return whole % (2 * GroupSet::kPadding) == 0 ? whole + GroupSet::kPadding : whole;
}

double product(const double* x, const double* y, std::int64_t size) {
  double sum = 0;
  for (std::int64_t i = 0; i < size; ++i) sum += x[i] * y[i];
  return sum;
}

double norm(const double* x, std::int64_t size) {
  return std::sqrt(product(x, x, size));
}

// Eigenvectors of A [s, s] in its place, and its eigenvalues. A library's call costs a hundred times as much where s is 3.
constexpr std::int64_t kJacobiSize = 16;

// Jacobi's rotations, row by row; Golub and Van Loan 8.5.
void decompose_by_rotations(double* A, std::int64_t s, double* values) {
  double V[kJacobiSize * kJacobiSize] = {};
  for (std::int64_t i = 0; i < s; ++i) V[i * (s + 1)] = 1;
  bool rotated = s > 1;
  for (int sweep = 0; rotated && sweep < 60; ++sweep) {
    rotated = false;
    for (std::int64_t p = 0; p < s; ++p) {
      for (std::int64_t q = p + 1; q < s; ++q) {
        const double beside = A[p + q * s];
        if (!(std::fabs(beside) > kUnit / 4 * std::sqrt(A[p * (s + 1)]) * std::sqrt(A[q * (s + 1)]))) continue;
        rotated = true;
        const double tau = (A[q * (s + 1)] - A[p * (s + 1)]) / (2 * beside);
        const double t = (tau < 0 ? -1 : 1) / (std::fabs(tau) + std::sqrt(1 + tau * tau));
        const double c = 1 / std::sqrt(1 + t * t);
        const auto rotate = [c, sine = t * c](double& x, double& y) {
          const double before = x;
          x = c * before - sine * y;
          y = sine * before + c * y;
        };
        for (std::int64_t k = 0; k < s; ++k) rotate(A[k + p * s], A[k + q * s]);
        for (std::int64_t k = 0; k < s; ++k) rotate(A[p + k * s], A[q + k * s]);
        for (std::int64_t k = 0; k < s; ++k) rotate(V[k + p * s], V[k + q * s]);
      }
    }
  }
  for (std::int64_t i = 0; i < s; ++i) values[i] = A[i * (s + 1)];
  std::copy_n(V, s * s, A);
}

void decompose_by_lapack(double* A, std::int64_t size, double* values) {
  const auto s = static_cast<int>(size);
  const int work_size = 34 * s;
  std::vector<double> work(static_cast<std::size_t>(work_size));
  int info = 0;
  dsyev_("V", "L", &s, A, &s, values, work.data(), &work_size, &info);
  SHRINKWARP_REQUIRE(info == 0, Error, "GroupBasis: LAPACK's dsyev gives ", info, " for n = ", s);
}

}  // namespace

GroupBasis::GroupBasis(const Context& context, MatrixView<const double> D, std::int64_t group_size) {
  check_matrix(context, "GroupBasis", "D", D, D.rows, D.cols);
  SHRINKWARP_REQUIRE(!context.is_cuda(), DeviceError, "GroupBasis: D lies on ", D.device, ", wanted the cpu");
  SHRINKWARP_REQUIRE(group_size >= 1 && D.cols % group_size == 0 && group_size <= std::numeric_limits<int>::max() / 64,
                     ShapeError, "GroupBasis: group_size is ", group_size, ", wanted a divisor of the ", D.cols,
                     " atoms");
  SHRINKWARP_REQUIRE(D.rows % GroupSet::kPadding == 0, ShapeError, "GroupBasis: D has ", D.rows,
                     " rows, wanted a multiple of ", GroupSet::kPadding);
  vectors_ = Tensor<double>(context, group_size, D.cols);
  values_ = Tensor<double>(context, D.cols);
  const SingleThreadedBlas single;
  context.parallel_for(D.cols / group_size, [&](std::int64_t g, int) {
    double* const A = vectors_.data() + g * group_size * group_size;
    double* const values = values_.data() + g * group_size;
    for (std::int64_t j = 0; j < group_size; ++j)
      for (std::int64_t i = 0; i <= j; ++i)
        A[i + j * group_size] = A[j + i * group_size] =
            dot(D.column(g * group_size + i), D.column(g * group_size + j), D.rows);
    if (group_size <= kJacobiSize)
      decompose_by_rotations(A, group_size, values);
    else
      decompose_by_lapack(A, group_size, values);
    for (std::int64_t i = 0; i < group_size; ++i) values[i] = std::max(values[i], 0.0);
  });
}

void GroupSetScratch::reserve(const Context& context, std::int64_t atoms) {
  if (atoms <= capacity_) return;
  capacity_ = padded(atoms);
  ld_ = leading(capacity_);
  factor_ = Tensor<double>(context, ld_, capacity_);
  for (Tensor<double>* vector : {&right_, &first_, &second_, &change_, &factors_, &one_})
    *vector = Tensor<double>::zeros(context, capacity_);
  groups_ = Tensor<GroupOnLine>(context, capacity_);
  for (Tensor<std::int32_t>* vector : {&active_, &columns_}) *vector = Tensor<std::int32_t>::zeros(context, capacity_);
}

std::int64_t GroupSetScratch::bytes(std::int64_t atoms) {
  return 8 * leading(atoms) * padded(atoms) + 88 * padded(atoms) + 10 * 256;
}

GroupSet::GroupSet(const Context& context, std::int64_t group_size, std::int64_t capacity)
    : group_size_(group_size), capacity_(capacity), ld_(leading(capacity * group_size)) {
  const std::int64_t atoms = padded(capacity * group_size);
  gram_ = Tensor<double>::zeros(context, ld_, capacity * group_size);
  for (Tensor<double>* vector : {&code_, &correlation_}) *vector = Tensor<double>::zeros(context, atoms);
  for (Tensor<double>* vector : {&length_, &threshold_}) *vector = Tensor<double>::zeros(context, capacity);
  group_ = Tensor<std::int32_t>::zeros(context, capacity);
  atom_ = Tensor<std::int32_t>::zeros(context, atoms);
}

std::int64_t GroupSet::bytes(std::int64_t group_size, std::int64_t capacity) {
  const std::int64_t atoms = capacity * group_size;
  return 8 * leading(atoms) * atoms + 20 * padded(atoms) + 20 * capacity + 8 * 256;
}

void GroupSet::reserve(const Context& context, std::int64_t capacity) {
  if (capacity <= capacity_) return;
  GroupSet larger(context, group_size_, capacity);
  const std::int64_t atoms = size_ * group_size_;
  for (std::int64_t j = 0; j < atoms; ++j)
    std::copy_n(gram_.data() + j * ld_, atoms, larger.gram_.data() + j * larger.ld_);
  const auto keep = [](const auto& from, auto& to, std::int64_t count) { std::copy_n(from.data(), count, to.data()); };
  keep(code_, larger.code_, atoms);
  keep(correlation_, larger.correlation_, atoms);
  keep(atom_, larger.atom_, atoms);
  keep(length_, larger.length_, size_);
  keep(threshold_, larger.threshold_, size_);
  keep(group_, larger.group_, size_);
  larger.size_ = size_;
  larger.support_ = support_;
  larger.steps_ = steps_;
  larger.ridge_ = ridge_;
  larger.basis_ = basis_;
  *this = std::move(larger);
}

void GroupSet::clear(double ridge) {
  size_ = support_ = steps_ = 0;
  ridge_ = ridge;
}

void GroupSet::add(MatrixView<const double> D, const GroupBasis& basis, const std::int32_t* groups,
                   const double* correlations, const double* thresholds, std::int64_t count) {
  SHRINKWARP_REQUIRE(size_ + count <= capacity_, ShapeError, "GroupSet: ", size_, " groups and ", count,
                     " more, wanted at most ", capacity_);
  SHRINKWARP_REQUIRE(D.rows % kPadding == 0 && D.ld % kPadding == 0, ShapeError, "GroupSet: D has ", D.rows,
                     " rows, ld ", D.ld, ", wanted multiples of ", kPadding);
  SHRINKWARP_REQUIRE(basis.group_size() == group_size_, ShapeError, "GroupSet: the basis is of groups of ",
                     basis.group_size(), ", wanted ", group_size_);
  basis_ = &basis;
  const std::int64_t first = size_ * group_size_;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t p = size_ + k;
    group_.data()[p] = groups[k];
    length_.data()[p] = 0;
    threshold_.data()[p] = thresholds[k];
    for (std::int64_t i = 0; i < group_size_; ++i) {
      atom_.data()[p * group_size_ + i] = static_cast<std::int32_t>(groups[k] * group_size_ + i);
      code_.data()[p * group_size_ + i] = 0;
      correlation_.data()[p * group_size_ + i] = correlations[k * group_size_ + i];
    }
  }
  size_ += count;
  const std::int64_t last = size_ * group_size_;
  cpu::active_set_loops<double>().gram(D, atom_.data(), first, last, gram_.data(), ld_);
  for (std::int64_t j = first; j < last; ++j) gram_.data()[j * (ld_ + 1)] += ridge_;
}

void GroupSet::set_code(std::int64_t p, const double* code) {
  std::copy_n(code, group_size_, code_.data() + p * group_size_);
  settle_length(p);
}

void GroupSet::set_correlation(std::int64_t p, const double* correlation) {
  std::copy_n(correlation, group_size_, correlation_.data() + p * group_size_);
}

// z_g at position p has changed.
void GroupSet::settle_length(std::int64_t p) {
  double& length = length_.data()[p];
  support_ -= length > 0 ? 1 : 0;
  length = norm(code(p), group_size_);
  if (!(length > 0)) std::fill_n(code_.data() + p * group_size_, group_size_, 0.0);  // its squares are under the range
  support_ += length > 0 ? 1 : 0;
}

void GroupSet::keep_active() {
  const std::int64_t s = group_size_;
  std::int64_t kept = 0;
  for (std::int64_t p = 0; p < size_; ++p) {
    if (!is_active(p)) continue;
    for (std::int64_t j = 0; j < s; ++j) {
      const double* const from = gram_.data() + (p * s + j) * ld_;
      double* to = gram_.data() + (kept * s + j) * ld_;
      for (std::int64_t q = 0; q < size_; ++q) {
        if (!is_active(q)) continue;
        std::copy_n(from + q * s, s, to);
        to += s;
      }
    }
    ++kept;
  }
  kept = 0;
  for (std::int64_t p = 0; p < size_; ++p) {
    if (!is_active(p)) continue;
    std::copy_n(code_.data() + p * s, s, code_.data() + kept * s);
    std::copy_n(correlation_.data() + p * s, s, correlation_.data() + kept * s);
    std::copy_n(atom_.data() + p * s, s, atom_.data() + kept * s);
    length_.data()[kept] = length_.data()[p];
    threshold_.data()[kept] = threshold_.data()[p];
    group_.data()[kept] = group_.data()[p];
    ++kept;
  }
  size_ = kept;
}

// How far position p is from where it has to be, in units of its threshold; where it is in use, `out` [s] is by what.
double GroupSet::aside(std::int64_t p, double* out) const {
  const double threshold = threshold_.data()[p];
  const double* const c = correlation(p);
  if (!is_active(p)) return norm(c, group_size_) / threshold - 1;
  const double scale = threshold / length(p);
  for (std::int64_t i = 0; i < group_size_; ++i) out[i] = c[i] - scale * code(p)[i];
  return norm(out, group_size_) / threshold;
}

double GroupSet::farthest(double* one) const {
  double most = 0;
  for (std::int64_t p = 0; p < size_; ++p) most = std::max(most, aside(p, one));
  return most;
}

// The minimum over z_g alone: to `code`. @return false where nothing is known of it, and z_g stays
bool GroupSet::best_code(std::int64_t p, double* code) const {
  const std::int64_t s = group_size_;
  const double* const Q = basis_->vectors(group(p));
  const double* const values = basis_->values(group(p));
  const double* const c = correlation(p);
  const double threshold = threshold_.data()[p];
  // b = Q'(corr_g + G_gg z_g), in which G_gg is diagonal.
  double* const b = code;
  double* const y = code + s;
  for (std::int64_t k = 0; k < s; ++k) {
    const double* const q = Q + k * s;
    b[k] = product(q, c, s) + (values[k] + ridge_) * product(q, this->code(p), s);
  }
  const double length = norm(b, s);
  if (length <= threshold) {
    std::fill_n(code, s, 0.0);
    return true;
  }
  // N(rho)^2 = sum of b_k^2 / (value_k rho + threshold)^2 = 1. 1 / N is concave and increases, so that Newton's method on it
  // comes from the left and stays there.
  double rho = (length - threshold) / (*std::max_element(values, values + s) + ridge_);
  if (!std::isfinite(rho)) return false;  // columns of zeros, whose correlation is rounding
  for (int time = 0; time < GroupRules::kRootSteps; ++time) {
    double sum = 0, slope = 0;
    for (std::int64_t k = 0; k < s; ++k) {
      const double value = values[k] + ridge_;
      const double inverse = 1 / (value * rho + threshold);
      const double term = b[k] * inverse * b[k] * inverse;
      sum += term;
      slope += term * value * inverse;
    }
    const double change = sum * (std::sqrt(sum) - 1) / slope;
    if (!std::isfinite(rho + change)) return false;
    rho += change;
    if (!(std::fabs(change) > GroupRules::kRootNear * rho)) break;
  }
  for (std::int64_t k = 0; k < s; ++k) y[k] = b[k] * rho / ((values[k] + ridge_) * rho + threshold);
  std::fill_n(code, s, 0.0);
  for (std::int64_t k = 0; k < s; ++k)
    for (std::int64_t i = 0; i < s; ++i) code[i] += y[k] * Q[i + k * s];
  return true;
}

// Each group once, those that are where they have to be left out.
void GroupSet::sweep(GroupSetScratch& scratch, double tolerance) {
  const std::int64_t s = group_size_;
  double* const code = scratch.one_.data();
  double* const moved = scratch.factors_.data();
  for (std::int64_t p = 0; p < size_; ++p) {
    if (!(aside(p, code) > GroupRules::kSweepShare * tolerance) || !best_code(p, code)) continue;
    double* const z = code_.data() + p * s;
    for (std::int64_t i = 0; i < s; ++i) {
      moved[i] = code[i] - z[i];
      z[i] = code[i];
    }
    settle_length(p);
    for (std::int64_t i = 0; i < s; ++i) scratch.columns_.data()[i] = static_cast<std::int32_t>(p * s + i);
    cpu::active_set_loops<double>().subtract_columns(gram_.data(), ld_, scratch.columns_.data(), moved, s, size_ * s,
                                                     correlation_.data());
  }
}

// L L' = H on the `count` groups of S, lifted on its diagonal. @return false where rounding lets it have none
bool GroupSet::factor(GroupSetScratch& scratch, std::int64_t count, double lift) const {
  const std::int64_t s = group_size_;
  const std::int64_t ld = scratch.ld_;
  const std::int64_t size = count * s;
  const std::int64_t whole = (size + 3) / 4 * 4;
  for (; lift <= GroupRules::kLargestLift; lift *= GroupRules::kLiftFactor) {
    for (std::int64_t k = 0; k < count; ++k) {
      const std::int64_t p = scratch.active_.data()[k];
      const double bent = threshold_.data()[p] / length(p);
      for (std::int64_t j = 0; j < s; ++j) {
        const double* const from = gram_.data() + (p * s + j) * ld_;
        double* const to = scratch.factor_.data() + (k * s + j) * ld;
        for (std::int64_t l = 0, i = 0; l < count; ++l) {
          const double* const piece = from + scratch.active_.data()[l] * s;
          for (std::int64_t q = 0; q < s; ++q) to[i++] = piece[q];
        }
        std::fill(to + size, to + padded(whole), 0.0);
        double* const block = to + k * s;
        const double along = bent * code(p)[j] / length(p) / length(p);
        for (std::int64_t i = 0; i < s; ++i) block[i] -= along * code(p)[i];
        block[j] += bent + lift * from[p * s + j];
      }
    }
    for (std::int64_t j = size; j < whole; ++j) {
      double* const to = scratch.factor_.data() + j * ld;
      std::fill(to, to + padded(whole), 0.0);
      to[j] = 1;
    }
    if (cpu::factor_loops().factor(scratch.factor_.data(), ld, whole)) return true;
  }
  return false;
}

// The step to the lowest point of the objective's second-order model: the first `count` of the `all` groups in the list of S
// move freely, the others to 0. To `step` [s |W|], where S moves. @return false where rounding lets it have none
bool GroupSet::model_step(GroupSetScratch& scratch, std::int64_t count, std::int64_t all, double lift,
                          double* step) const {
  const std::int64_t s = group_size_;
  const std::int32_t* const active = scratch.active_.data();
  double* const right = scratch.right_.data();
  for (std::int64_t k = 0; k < count; ++k) std::fill_n(step + active[k] * s, s, 0.0);
  for (std::int64_t k = count; k < all; ++k)
    for (std::int64_t i = 0; i < s; ++i) step[active[k] * s + i] = -code(active[k])[i];
  if (count == 0) return true;
  for (std::int64_t k = 0; k < count; ++k) aside(active[k], right + k * s);
  if (count < all) {
    multiply(scratch, all, step);
    for (std::int64_t k = 0; k < count; ++k)
      for (std::int64_t i = 0; i < s; ++i) right[k * s + i] += scratch.change_.data()[active[k] * s + i];
  }
  if (!factor(scratch, count, lift)) return false;
  const std::int64_t whole = (count * s + 3) / 4 * 4;
  std::fill(right + count * s, right + whole, 0.0);
  cpu::factor_loops().solve(scratch.factor_.data(), scratch.ld_, whole, right);
  for (std::int64_t k = 0; k < count; ++k) std::copy_n(right + k * s, s, step + active[k] * s);
  return std::all_of(right, right + count * s, [](double value) { return std::isfinite(value); });
}

// change = -G step, of the first `all` groups in the list of S. @return step'G step
double GroupSet::multiply(GroupSetScratch& scratch, std::int64_t all, const double* step) const {
  const std::int64_t s = group_size_;
  const std::int32_t* const active = scratch.active_.data();
  double* const change = scratch.change_.data();
  for (std::int64_t k = 0; k < all; ++k) {
    for (std::int64_t i = 0; i < s; ++i) {
      scratch.columns_.data()[k * s + i] = static_cast<std::int32_t>(active[k] * s + i);
      scratch.factors_.data()[k * s + i] = step[active[k] * s + i];
    }
  }
  std::fill_n(change, size_ * s, 0.0);
  cpu::active_set_loops<double>().subtract_columns(gram_.data(), ld_, scratch.columns_.data(), scratch.factors_.data(),
                                                   all * s, size_ * s, change);
  double square = 0;
  for (std::int64_t k = 0; k < all; ++k) square -= product(step + active[k] * s, change + active[k] * s, s);
  return square;
}

// The objective along a step, less what it is at its beginning:
//
//   F(a) = a^2 / 2 step'G step - a slope + sum over S of threshold (||z + a d|| - ||z|| - a u'd),   slope = aside'step
//
// no term of which is a difference of large numbers.
struct GroupSet::Line {
  const GroupOnLine* groups;
  std::int64_t count;
  double square, slope;

  double change(double a) const {
    double sum = a * (a / 2 * square - slope);
    for (const auto* g = groups; g < groups + count; ++g) sum += change_along(*g, a);
    return sum;
  }
  bool rises(double a) const {  // F is convex: it rises from its lowest point on
    double sum = a * square - slope;
    for (const auto* g = groups; g < groups + count; ++g) sum += slope_along(*g, a);
    return sum > 0;
  }
  double lowest() const {  // a little before it
    double low = 0, high = 1;
    for (int time = 0; time < GroupRules::kHalvings && high - low > GroupRules::kNearLowest * high; ++time) {
      const double middle = (low + high) / 2;
      (rises(middle) ? high : low) = middle;
    }
    return low;
  }
};

// `change` is -G step after it.
GroupSet::Line GroupSet::line(GroupSetScratch& scratch, std::int64_t all, const double* step) const {
  Line line{scratch.groups_.data(), all, multiply(scratch, all, step), 0};
  for (std::int64_t k = 0; k < all; ++k) {
    const std::int64_t p = scratch.active_.data()[k];
    const double* const d = step + p * group_size_;
    aside(p, scratch.one_.data());
    line.slope += product(scratch.one_.data(), d, group_size_);
    const double radial = product(code(p), d, group_size_) / length(p);
    const double across = product(d, d, group_size_) - radial * radial;
    scratch.groups_.data()[k] = {threshold(p), length(p), radial, std::max(0.0, across)};
  }
  return line;
}

// A step of Newton's on S, if there is one that descends. @return whether it was taken whole
bool GroupSet::newton(GroupSetScratch& scratch, double lift) {
  const std::int64_t s = group_size_;
  std::int32_t* const active = scratch.active_.data();
  double* const first = scratch.first_.data();
  double* const second = scratch.second_.data();
  std::int64_t all = 0;
  for (std::int64_t p = 0; p < size_; ++p)
    if (is_active(p)) active[all++] = static_cast<std::int32_t>(p);
  ++steps_;
  if (all == 0 || !model_step(scratch, all, all, lift, first)) return false;

  // Groups that would pass 0 stop there, and the others have the step that suits that, until none would pass.
  const double* step = first;
  const auto that_stay = [&](std::int64_t count) {
    const auto stays = [&](std::int32_t p) { return product(code(p), step + p * s, s) > -length(p) * length(p); };
    return std::partition(active, active + count, stays) - active;
  };
  for (std::int64_t count = all, left = that_stay(all); left < count; left = that_stay(count)) {
    count = left;
    step = second;
    if (!model_step(scratch, count, all, lift, second)) return false;
  }

  // That whole where it brings enough, else the better of it and the straight step to its lowest point.
  double promised = 0, part = 1;
  for (std::int64_t k = 0; k < all; ++k) {
    aside(active[k], scratch.one_.data());
    promised += product(scratch.one_.data(), first + active[k] * s, s);
  }
  const double gained = line(scratch, all, step).change(1);
  if (!(gained <= -GroupRules::kEnough * promised)) {
    const Line straight = line(scratch, all, first);
    const double lowest = straight.lowest();
    if (step == first || !(gained <= straight.change(lowest))) {
      part = lowest;
      step = first;
      if (!(straight.change(part) < 0)) return false;
    } else {
      if (!(gained < 0)) return false;
      multiply(scratch, all, step);
    }
  }
  for (std::int64_t k = 0; k < all; ++k) {
    double* const z = code_.data() + active[k] * s;
    for (std::int64_t i = 0; i < s; ++i) z[i] += part * step[active[k] * s + i];
    settle_length(active[k]);
  }
  for (std::int64_t i = 0; i < size_ * s; ++i) correlation_.data()[i] += part * scratch.change_.data()[i];
  return part == 1;
}

GroupSetOutcome GroupSet::solve(GroupSetScratch& scratch, double tolerance, std::int64_t max_steps) {
  SHRINKWARP_REQUIRE(scratch.capacity() >= std::max(size_, std::int64_t{2}) * group_size_, ShapeError,
                     "GroupSet::solve: the scratch is for ", scratch.capacity(), " atoms, wanted at least ",
                     std::max(size_, std::int64_t{2}) * group_size_);
  double nearest = std::numeric_limits<double>::infinity(), lift = GroupRules::kLift;
  std::int64_t support = -1;
  bool whole = false;
  for (int idle = 0;;) {
    sweep(scratch, tolerance);
    const double left = farthest(scratch.one_.data());
    if (left <= tolerance) return GroupSetOutcome::solved;
    // Whole steps that nothing holds back, with the same groups in use, come nearer and nearer, but for rounding.
    const bool nearer = left <= nearest / 2;
    idle = whole && lift == GroupRules::kLift && support_ == support && !nearer ? idle + 1 : 0;
    if (idle == GroupRules::kIdleSteps || steps_ >= max_steps) return GroupSetOutcome::stuck;
    nearest = left;
    support = support_;
    whole = newton(scratch, lift);
    lift = whole ? std::max(lift / GroupRules::kLiftFactor, GroupRules::kLift)
                 : std::min(std::max(GroupRules::kFirstLift, lift * GroupRules::kLiftFactor), GroupRules::kLargestLift);
  }
}

}  // namespace shrinkwarp
