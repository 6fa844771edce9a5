#include <shrinkwarp/kernels/lasso_path/lasso_path.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

#include <shrinkwarp/kernels/atom_products/atom_products.hpp>

namespace shrinkwarp {
namespace {

// What is left of an atom outside the span of S counts as nothing under this share of what it is a difference of.
constexpr double kDependent = 1e-12;
// Codes and correlations are made anew from each other after so many events, before their rounding adds up.
constexpr std::int64_t kRefresh = 8;
constexpr std::int64_t kFirstRoom = 32;

}  // namespace

void LassoPath::clear(double ridge, bool nonnegative, std::int64_t most) {
  most_ = most;
  ridge_ = ridge;
  nonnegative_ = nonnegative;
  atom_.clear();
  weight_.clear();
  start_.clear();
  restart();
}

void LassoPath::make_room(std::int64_t size) {
  if (size <= ld_) return;
  const std::int64_t room = std::max(size, std::min(std::max(2 * ld_, kFirstRoom), most_));
  std::vector<double> larger(at(room * room));
  const std::int64_t held = this->size();
  for (std::int64_t j = 0; j < held; ++j) std::copy_n(gram_.begin() + j * ld_, held, larger.begin() + j * room);
  gram_ = std::move(larger);
  factor_.resize(at(room * room));
  ld_ = room;
}

void LassoPath::add(MatrixView<const double> D, const std::int32_t* atoms, const double* correlations,
                    const double* weights, std::int64_t count) {
  const std::int64_t first = size();
  make_room(first + count);
  atom_.insert(atom_.end(), atoms, atoms + count);
  weight_.insert(weight_.end(), weights, weights + count);
  start_.insert(start_.end(), correlations, correlations + count);
  for (std::int64_t j = first; j < size(); ++j) {
    correlate_atoms(D, atom_.data(), j + 1, D.column(atom_[at(j)]), gram_.data() + j * ld_);
    gram_[at(j * (ld_ + 1))] += ridge_;
    for (std::int64_t i = 0; i < j; ++i) gram_[at(j + i * ld_)] = gram_[at(i + j * ld_)];
  }
  restart();
}

void LassoPath::restart() {
  const std::size_t size = atom_.size();
  correlation_ = start_;
  code_.assign(size, 0.0);
  sign_.assign(size, 0.0);
  slope_.assign(size, 0.0);
  inside_.assign(size, 0);
  spanned_.assign(size, 0);
  active_.clear();
  rate_.clear();
  events_ = 0;
  just_left_ = -1;
  lambda_ = 0;
  std::int64_t largest = -1;
  for (std::int64_t j = 0; j < this->size(); ++j) {
    const double value = (nonnegative_ ? start_[at(j)] : std::fabs(start_[at(j)])) / weight_[at(j)];
    if (value <= lambda_) continue;
    lambda_ = value;
    largest = j;
  }
  next_lambda_ = lambda_;
  next_event_ = largest >= 0 ? Event::joins : Event::ends;
  next_position_ = largest;
}

double LassoPath::norm() const {
  double sum = 0;
  for (const std::int64_t i : active_) sum += signed_weight(i) * code_[at(i)];
  return sum;
}

double LassoPath::norm_rate() const {
  double sum = 0;
  for (std::int64_t k = 0; k < support(); ++k) sum += signed_weight(active_[at(k)]) * rate_[at(k)];
  return sum;
}

double LassoPath::squares() const {
  double sum = 0;
  for (const std::int64_t i : active_) sum += code_[at(i)] * code_[at(i)];
  return sum;
}

double LassoPath::squares_rate() const {
  double sum = 0;
  for (std::int64_t k = 0; k < support(); ++k) sum += code_[at(active_[at(k)])] * rate_[at(k)];
  return sum;
}

double LassoPath::rate_squares() const {
  double sum = 0;
  for (const double u : rate_) sum += u * u;
  return sum;
}

double LassoPath::explained() const {
  double sum = 0;
  for (const std::int64_t i : active_)
    sum += code_[at(i)] * (start_[at(i)] + correlation_[at(i)] + ridge_ * code_[at(i)]);
  return sum;
}

void LassoPath::move_to(double lambda) {
  const double fall = lambda_ - lambda;
  for (std::int64_t k = 0; k < support(); ++k) code_[at(active_[at(k)])] += fall * rate_[at(k)];
  for (std::int64_t j = 0; j < size(); ++j) correlation_[at(j)] -= fall * slope_[at(j)];
  lambda_ = lambda;
}

void LassoPath::pass() {
  move_to(next_lambda_);
  if (++events_ % kRefresh == 0) refresh();
  just_left_ = -1;
  if (next_event_ == Event::joins) {
    join(next_position_);
  } else {
    just_left_ = active_[at(next_position_)];
    leave(next_position_);
  }
  find_next();
}

void LassoPath::settle(const double* correlations) {
  right_.resize(at(support()));
  for (std::int64_t k = 0; k < support(); ++k) right_[at(k)] = correlations[k] - target(k);
  solve(right_);
  for (std::int64_t k = 0; k < support(); ++k) code_[at(active_[at(k)])] += right_[at(k)];
}

// Correlations from the codes, the codes settled by them, and again.
void LassoPath::refresh() {
  for (int time = 0;; ++time) {
    std::copy(start_.begin(), start_.end(), correlation_.begin());
    for (const std::int64_t i : active_) {
      const double* const column = gram_.data() + i * ld_;
      for (std::int64_t j = 0; j < size(); ++j) correlation_[at(j)] -= code_[at(i)] * column[j];
    }
    if (time > 0) return;
    std::vector<double> inside;
    for (const std::int64_t i : active_) inside.push_back(correlation_[at(i)]);
    settle(inside.data());
  }
}

// right <- G_SS^-1 right.
void LassoPath::solve(std::vector<double>& right) const {
  const std::int64_t s = support();
  for (std::int64_t c = 0; c < s; ++c) {
    const double* const column = factor_.data() + c * ld_;
    double sum = right[at(c)];
    for (std::int64_t k = 0; k < c; ++k) sum -= column[k] * right[at(k)];
    right[at(c)] = sum / column[c];
  }
  for (std::int64_t c = s - 1; c >= 0; --c) {
    const double* const column = factor_.data() + c * ld_;
    const double value = right[at(c)] /= column[c];
    for (std::int64_t k = 0; k < c; ++k) right[at(k)] -= column[k] * value;
  }
}

// The linear piece from here: its rates, and what ends it.
void LassoPath::find_next() {
  rate_.resize(at(support()));
  for (std::int64_t k = 0; k < support(); ++k) rate_[at(k)] = signed_weight(active_[at(k)]);
  solve(rate_);
  slope_.assign(at(size()), 0.0);
  for (std::int64_t k = 0; k < support(); ++k) {
    const double* const column = gram_.data() + active_[at(k)] * ld_;
    for (std::int64_t j = 0; j < size(); ++j) slope_[at(j)] += rate_[at(k)] * column[j];
  }
  double fall = lambda_;
  next_event_ = Event::ends;
  next_position_ = -1;
  const auto offer = [&](double when, Event event, std::int64_t position) {
    if (!(when < fall)) return;
    fall = std::max(when, 0.0);  // rounding may have taken it past its place
    next_event_ = event;
    next_position_ = position;
  };
  for (std::int64_t j = 0; j < size(); ++j) {
    if (inside_[at(j)] || spanned_[at(j)] || std::isinf(weight_[at(j)])) continue;
    const double threshold = lambda_ * weight_[at(j)];
    const double c = correlation_[at(j)], a = slope_[at(j)], w = weight_[at(j)];
    // What has just left is at its threshold, and goes under it from here.
    if (w - a > 0 && !(j == just_left_ && sign_[at(j)] > 0)) offer((threshold - c) / (w - a), Event::joins, j);
    if (w + a > 0 && !(j == just_left_ && sign_[at(j)] < 0) && !nonnegative_)
      offer((threshold + c) / (w + a), Event::joins, j);
  }
  for (std::int64_t k = 0; k < support(); ++k) {
    const double z = code_[at(active_[at(k)])], u = rate_[at(k)];
    if (sign_[at(active_[at(k)])] * u < 0) offer(-z / u, Event::leaves, k);
  }
  next_lambda_ = lambda_ - fall;
}

// Position j of W joins S, if S does not span it.
void LassoPath::join(std::int64_t j) {
  const std::int64_t s = support();
  double* const q = factor_.data() + s * ld_;
  double left = gram(j, j), length = std::sqrt(gram(j, j));
  for (std::int64_t c = 0; c < s; ++c) {
    const double* const column = factor_.data() + c * ld_;
    double sum = gram(active_[at(c)], j);
    for (std::int64_t k = 0; k < c; ++k) sum -= column[k] * q[k];
    q[c] = sum / column[c];
    left -= q[c] * q[c];
  }
  right_.assign(q, q + s);
  for (std::int64_t c = s - 1; c >= 0; --c) {  // R^-1 q: what S would move by
    const double* const column = factor_.data() + c * ld_;
    const double value = right_[at(c)] /= column[c];
    for (std::int64_t k = 0; k < c; ++k) right_[at(k)] -= column[k] * value;
    length += std::fabs(value) * std::sqrt(gram(active_[at(c)], active_[at(c)]));
  }
  if (!(left > kDependent * std::sqrt(gram(j, j)) * length)) {
    spanned_[at(j)] = 1;
    return;
  }
  q[s] = std::sqrt(left);
  active_.push_back(j);
  inside_[at(j)] = 1;
  sign_[at(j)] = correlation_[at(j)] > 0 ? 1 : -1;
  code_[at(j)] = 0;
}

// The k-th atom of S leaves it. Its column leaves R, and rotations of the rows below make R triangular again.
void LassoPath::leave(std::int64_t k) {
  const std::int64_t j = active_[at(k)];
  const std::int64_t s = support();
  for (std::int64_t c = k + 1; c < s; ++c) std::copy_n(factor_.data() + c * ld_, c + 1, factor_.data() + (c - 1) * ld_);
  for (std::int64_t c = k; c < s - 1; ++c) {  // rows c and c + 1
    const double a = factor_[at(c + c * ld_)], b = factor_[at(c + 1 + c * ld_)];
    const double length = std::hypot(a, b);
    const double cosine = a / length, sine = b / length;
    for (std::int64_t l = c; l < s - 1; ++l) {
      double& upper = factor_[at(c + l * ld_)];
      double& lower = factor_[at(c + 1 + l * ld_)];
      const double turned = cosine * upper + sine * lower;
      lower = cosine * lower - sine * upper;
      upper = turned;
    }
  }
  active_.erase(active_.begin() + k);
  inside_[at(j)] = 0;
  code_[at(j)] = 0;
  std::fill(spanned_.begin(), spanned_.end(), std::uint8_t{0});
}

}  // namespace shrinkwarp
