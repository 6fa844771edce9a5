#include <shrinkwarp/models/lasso/dictionary.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <type_traits>
#include <utility>

#include <shrinkwarp/kernels/active_set/active_sets.hpp>
#include <shrinkwarp/kernels/atom_products/atom_products.hpp>
#include <shrinkwarp/kernels/common/columns_cpu.hpp>
#include <shrinkwarp/kernels/common/instruction_set.hpp>
#include <shrinkwarp/kernels/lipschitz/lipschitz.hpp>
#include <shrinkwarp/runtime/flat.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>

namespace shrinkwarp {
namespace {

/// Largest magnitude. @throws ValueError (an entry is not finite)
double check_entries(const Context& host, MatrixView<const double> D, const std::string& name) {
  std::vector<double> largest(static_cast<std::size_t>(D.cols));
  cpu::for_columns(host, D, [&](std::int64_t j) {
    const double* const d = D.column(j);
    double most = 0, nothing = 0;
    for (std::int64_t i = 0; i < D.rows; ++i) {
      most = std::max(most, std::fabs(d[i]));
      nothing += d[i] * 0.0;  // NaN where an entry is not finite
    }
    largest[static_cast<std::size_t>(j)] = most + nothing;
  });
  for (std::int64_t j = 0; j < D.cols; ++j) {
    if (std::isfinite(largest[static_cast<std::size_t>(j)])) continue;
    for (std::int64_t i = 0; i < D.rows; ++i)
      SHRINKWARP_REQUIRE(std::isfinite(D(i, j)), ValueError, name, ": entry (", i, ", ", j, ") is ", D(i, j),
                         ", wanted a finite number");
  }
  return *std::max_element(largest.begin(), largest.end());
}

/// Rows of columns as the working-set solver reads them.
std::int64_t padded_rows(std::int64_t rows) {
  return (rows + kAtomPadding - 1) / kAtomPadding * kAtomPadding;
}

/// Tells layouts of packed panels apart, which are an instruction set's own.
std::uint64_t layout_of_this_processor() {
  const std::string name = cpu_instruction_set();
  return hash_bytes(name.data(), name.size());
}

/// A copy on the context's device; returns when it is there.
template <class T>
Tensor<T> on_device(const Context& context, const Tensor<T>& matrix) {
  Tensor<T> copied(context, matrix.rows(), matrix.cols());
  copy(context, matrix.matrix(), copied.matrix());
  context.synchronize();
  return copied;
}

}  // namespace

Dictionary::Dictionary(const Context& context, MatrixView<const double> D, const std::string& name) {
  SHRINKWARP_REQUIRE(D.rows > 0 && D.cols > 0, ShapeError, name, ": found a dictionary of ", D.rows, " x ", D.cols,
                     ", wanted at least one row and one atom");
  SHRINKWARP_REQUIRE(D.cols <= std::numeric_limits<std::int32_t>::max(), ShapeError, name, ": found ", D.cols,
                     " atoms, wanted at most 2147483647");
  std::optional<Context> its_own;
  const Context& host = context.is_cuda() ? its_own.emplace(Context::cpu()) : context;
  const double largest = check_entries(host, D, name);

  // First to entries of at most 1, so that their squares keep in range; then, with these known, to a norm of 1 to 2.
  const double entry_scale = largest > 0 ? std::exp2(std::ilogb(largest)) : 1;
  // Products with the inverses of powers of two are as exact as quotients, where these are normal numbers.
  const double entry_factor = 1 / entry_scale;
  const bool invertible = std::isnormal(entry_factor);
  std::vector<double> energy(static_cast<std::size_t>(D.cols));
  cpu::for_columns(host, D, [&](std::int64_t j) {
    const double* const d = D.column(j);
    if (!invertible) {
      double sum = 0;
      for (std::int64_t i = 0; i < D.rows; ++i) sum += (d[i] / entry_scale) * (d[i] / entry_scale);
      energy[static_cast<std::size_t>(j)] = sum;
      return;
    }
    double sums[4] = {};  // chains side by side
    const auto square = [=](std::int64_t i) { return (d[i] * entry_factor) * (d[i] * entry_factor); };
    std::int64_t i = 0;
    for (; i + 4 <= D.rows; i += 4)
      for (std::int64_t k = 0; k < 4; ++k) sums[k] += square(i + k);
    for (; i < D.rows; ++i) sums[0] += square(i);
    energy[static_cast<std::size_t>(j)] = (sums[0] + sums[2]) + (sums[1] + sums[3]);
  });
  const double norm = std::sqrt(std::accumulate(energy.begin(), energy.end(), 0.0));
  const double norm_scale = norm > 0 ? std::exp2(std::ilogb(norm)) : 1;
  scale_ = entry_scale * norm_scale;
  SHRINKWARP_REQUIRE(std::isfinite(scale_), ValueError, name,
                     ": the norm of the dictionary leaves the range of float64, wanted smaller units");
  atom_norm_ = std::sqrt(*std::max_element(energy.begin(), energy.end())) / norm_scale * (1 + 1e-9);
  const std::int64_t padded = context.is_cuda() ? D.rows : padded_rows(D.rows);
  Tensor<double> scaled(host, padded, D.cols);
  const double norm_factor = 1 / norm_scale;
  cpu::for_columns(host, D, [&](std::int64_t j) {
    double* const column = scaled.matrix().column(j);
    if (invertible)
      std::transform(D.column(j), D.column(j) + D.rows, column,
                     [&](double value) { return value * entry_factor * norm_factor; });
    else
      std::transform(D.column(j), D.column(j) + D.rows, column,
                     [&](double value) { return value / entry_scale * norm_factor; });
    std::fill(column + D.rows, column + padded, 0.0);
  });
  exact_ = CertificateDictionary(context.is_cuda() ? on_device(context, scaled) : std::move(scaled), D.rows);
}

Tensor<double> Dictionary::in_user_units(const Context& context) const {
  Tensor<double> D(Context::cpu(1), rows(), atoms());
  copy(context, exact_.matrix(), D.matrix());
  context.synchronize();
  std::for_each(D.data(), D.data() + D.size(), [this](double& value) { value *= scale_; });
  return D;
}

double Dictionary::lipschitz(const Context& context) const {
  const std::lock_guard lock(*packing_);
  // On one thread of the CPU: the bits of a BLAS depend on how it shares its work, and the step's must not.
  const Context one = Context::cpu(1);
  if (lipschitz_ < 0) lipschitz_ = lipschitz_bound(context.is_cuda() ? context : one, exact_.matrix());
  return lipschitz_;
}

template <>
const StepDictionary<float>& Dictionary::packed<float>(const Context& context) const {
  const std::lock_guard lock(*packing_);
  if (packed_float_.cols() == 0) {
    const Context host = Context::cpu(1);
    Tensor<double> copied;
    MatrixView<const double> D = exact_.matrix();
    if (context.is_cuda()) {
      copied = Tensor<double>(host, D.rows, D.cols);
      copy(context, D, copied.matrix());
      context.synchronize();
      D = copied.matrix();
    }
    Tensor<float> rounded(host, D.rows, D.cols);
    for (std::int64_t j = 0; j < D.cols; ++j)
      std::transform(D.column(j), D.column(j) + D.rows, rounded.matrix().column(j),
                     [](double value) { return static_cast<float>(value); });
    if (context.is_cuda()) rounded = on_device(context, rounded);
    packed_float_ = StepDictionary<float>(context, rounded.matrix());
    context.synchronize();  // another thread may use it on another stream
  }
  return packed_float_;
}

template <>
const StepDictionary<double>& Dictionary::packed<double>(const Context& context) const {
  const std::lock_guard lock(*packing_);
  if (packed_double_.cols() == 0) {
    packed_double_ = StepDictionary<double>(context, exact_.matrix());
    context.synchronize();
  }
  return packed_double_;
}

const WorkingSetDictionary& Dictionary::working_set(const Context& context, bool plain) const {
  const std::lock_guard lock(*packing_);
  std::unique_ptr<const WorkingSetDictionary>& kept = plain ? plain_working_set_ : working_set_;
  if (!kept) kept = std::make_unique<const WorkingSetDictionary>(context, exact_.matrix(), plain);
  return *kept;
}

template <class Self, class Flat>
void Dictionary::list(Self& self, Flat& flat) {
  constexpr bool kReads = std::is_same_v<Flat, FlatReader>;
  flat.value(self.scale_);
  flat.value(self.atom_norm_);
  flat.value(self.lipschitz_);
  CertificateDictionary::list(self.exact_, flat);
  StepDictionary<float>::list(self.packed_float_, flat);
  StepDictionary<double>::list(self.packed_double_, flat);
  const MatrixView<const double> D = self.exact_.matrix();
  for (auto* parts : {&self.working_set_, &self.plain_working_set_}) {
    bool made = *parts != nullptr;
    flat.value(made);
    if (!made) continue;
    if constexpr (kReads) {
      auto read = std::make_unique<WorkingSetDictionary>(MatrixView<const double>{D.data, D.ld, D.cols, D.ld, {}});
      WorkingSetDictionary::list(*read, flat);
      *parts = std::move(read);
    } else {
      WorkingSetDictionary::list(**parts, flat);
    }
  }
}

std::int64_t Dictionary::flat_bytes() const {
  FlatWriter counted;
  counted.value(std::uint64_t{});
  list(*this, counted);
  return counted.used();
}

void Dictionary::write_flat(VectorView<std::byte> memory) const {
  SHRINKWARP_REQUIRE(device() == Device{}, DeviceError, "Dictionary::write_flat: the dictionary lies on ", device(),
                     ", wanted the cpu");
  FlatWriter written(memory);
  written.value(layout_of_this_processor());
  list(*this, written);
}

Dictionary Dictionary::from_flat(VectorView<std::byte> memory, const std::shared_ptr<const void>& owner) {
  FlatReader flat(memory, owner);
  std::uint64_t layout = 0;
  flat.value(layout);
  SHRINKWARP_REQUIRE(layout == layout_of_this_processor(), Error,
                     "Dictionary::from_flat: the block was written with other instructions than the ",
                     cpu_instruction_set(), " that this process uses");
  Dictionary dictionary;
  list(dictionary, flat);
  return dictionary;
}

const DeviceWorkingSetDictionary& Dictionary::device_working_set(const Context& context) const {
  const std::lock_guard lock(*packing_);
  if (device_working_set_) return *device_working_set_;
  auto made = std::make_unique<DeviceWorkingSetDictionary>();
  const MatrixView<const double> D = exact_.matrix();
  std::vector<std::int32_t> all(static_cast<std::size_t>(D.cols));
  std::iota(all.begin(), all.end(), 0);
  const VectorView<const std::int32_t> host{all.data(), D.cols, {}};
  Tensor<std::int32_t> columns(context, D.cols);
  copy(context, host, columns.vector());
  made->half = HalfColumns(context, D.rows, D.cols);
  made->half.set(context, D, columns.vector());
  if (D.cols <= DeviceWorkingSetDictionary::kMostGramAtoms) {
    made->gram = Tensor<double>(context, D.cols, D.cols);
    gram_matrix(context, D, made->gram.matrix());
  }
  context.synchronize();  // another thread may use it on another stream
  device_working_set_ = std::move(made);
  return *device_working_set_;
}

}  // namespace shrinkwarp
