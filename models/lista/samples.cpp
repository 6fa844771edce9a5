#include <shrinkwarp/models/lista/samples.hpp>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include <shrinkwarp/kernels/certificate/certificate.hpp>
#include <shrinkwarp/kernels/random/philox.hpp>
#include <shrinkwarp/models/lasso/observations.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/runtime/tensor.hpp>

namespace shrinkwarp {
namespace {

constexpr std::int64_t kChunk = 1024;
constexpr std::uint64_t kShareStream = std::uint64_t{2} << 48;  // and one for each pass

/// Reads rows[first ..] into the columns of X, neighbours at once.
void read_rows(ObservationSource& source, const std::vector<std::int64_t>& rows, std::int64_t first,
               MatrixView<double> X) {
  for (std::int64_t done = 0; done < X.cols;) {
    std::int64_t run = 1;
    const auto row = [&](std::int64_t i) { return rows[static_cast<std::size_t>(first + i)]; };
    while (done + run < X.cols && row(done + run) == row(done) + run) ++run;
    source.read(row(done), X.columns(done, run));
    done += run;
  }
}

}  // namespace

double LambdaShares::of(std::int64_t sample, std::uint64_t pass) const {
  if (low == high) return low;
  double uniform = 0;
  using Draw = philox::UniformDraw<double>;
  philox::draw_block<Draw>(seed, kShareStream | pass, sample / Draw::kLanes, sample, 1, &uniform);
  return low * std::pow(high / low, uniform);
}

template <class T>
Samples<T>::Samples(const Context& context, const Dictionary& dictionary, ObservationSource& source,
                    std::vector<std::int64_t> rows, std::int64_t memory, const CancelToken* cancel)
    : source_(source), rows_(std::move(rows)), dimension_(dictionary.rows()), atoms_(dictionary.atoms()) {
  SHRINKWARP_REQUIRE(source.dimension() == dictionary.rows(), ShapeError, source.name(),
                     ": found observations of length ", source.dimension(), ", wanted ", dictionary.rows(),
                     ", the number of rows of the dictionary");
  SHRINKWARP_REQUIRE(!rows_.empty(), ShapeError, source.name(), ": found no rows, wanted at least one observation");
  const Context host = Context::cpu(1);
  const std::int64_t n = dimension_;
  lambda_max_.resize(rows_.size());
  Tensor<double> read(host, n, std::min(kChunk, size()));
  const Tensor<double> X(context, n, read.cols()), largest(context, read.cols());
  const Tensor<double> scratch(context, correlation_scratch(context, dictionary.atoms(), read.cols()));
  double greatest = 0;
  long double energy = 0;
  Hash hash;
  for (std::int64_t first = 0; first < size(); first += kChunk) {
    if (cancel != nullptr && cancel->cancelled())
      SHRINKWARP_THROW(Cancelled, "Samples: cancelled with ", first, " of ", size(), " observations looked at");
    const std::int64_t count = std::min(kChunk, size() - first);
    const MatrixView<double> chunk = read.matrix().columns(0, count);
    read_rows(source_, rows_, first, chunk);
    hash.add(chunk.data, n * count * static_cast<std::int64_t>(sizeof(double)));
    for (std::int64_t b = 0; b < count; ++b) {
      require_finite(source_, rows_[static_cast<std::size_t>(first + b)], {chunk.column(b), n, {}});
      for (std::int64_t i = 0; i < n; ++i) {
        greatest = std::max(greatest, std::fabs(chunk(i, b)));
        energy += static_cast<long double>(chunk(i, b)) * chunk(i, b) / 2;
      }
    }
    copy<double>(context, chunk, X.matrix().columns(0, count));
    correlation_max(context, dictionary.exact(), X.matrix().columns(0, count), largest.vector().slice(0, count),
                    scratch.vector());
    copy<double>(context, largest.vector().slice(0, count), VectorView<double>{lambda_max_.data() + first, count, {}});
    context.synchronize();
  }
  hash_ = hash.value();
  if (greatest > 0) unit_ = std::exp2(std::ilogb(greatest));
  for (double& value : lambda_max_) value /= unit_;
  mean_energy_ = static_cast<double>(energy / (static_cast<long double>(unit_) * unit_) / size());
  if (size() * n * static_cast<std::int64_t>(sizeof(T)) > memory) return;
  held_.resize(static_cast<std::size_t>(n * size()));
  for (std::int64_t first = 0; first < size(); first += kChunk) {
    const MatrixView<double> chunk = read.matrix().columns(0, std::min(kChunk, size() - first));
    read_rows(source_, rows_, first, chunk);
    for (std::int64_t b = 0; b < chunk.cols; ++b)
      for (std::int64_t i = 0; i < n; ++i)
        held_[static_cast<std::size_t>(i + (first + b) * n)] = static_cast<T>(chunk(i, b) / unit_);
  }
}

template <class T>
void Samples<T>::gather(const std::int64_t* samples, const LambdaShares& shares, std::uint64_t pass, MatrixView<T> X,
                        VectorView<T> lambda) const {
  std::vector<double> row(held_.empty() ? static_cast<std::size_t>(dimension_) : 0);
  for (std::int64_t b = 0; b < X.cols; ++b) {
    const auto sample = static_cast<std::size_t>(samples[b]);
    lambda[b] = static_cast<T>(shares.of(samples[b], pass) * lambda_max_[sample]);
    if (!held_.empty()) {
      std::copy_n(held_.data() + static_cast<std::int64_t>(sample) * dimension_, dimension_, X.column(b));
      continue;
    }
    source_.read(rows_[sample], {row.data(), dimension_, 1, dimension_, {}});
    require_finite(source_, rows_[sample], {row.data(), dimension_, {}});
    for (std::int64_t i = 0; i < dimension_; ++i) X(i, b) = static_cast<T>(row[static_cast<std::size_t>(i)] / unit_);
  }
}

SampleRows split_rows(std::int64_t count, bool judges) {
  constexpr std::int64_t kFew = 20;
  SampleRows rows;
  for (std::int64_t i = 0; i < count; ++i)
    (!judges && count >= kFew && i % 10 == 9 ? rows.validation : rows.training).push_back(i);
  if (!judges && rows.validation.empty()) rows.validation = rows.training;
  return rows;
}

std::vector<std::int64_t> start_rows(const std::vector<std::int64_t>& rows) {
  constexpr std::size_t kMost = 10000;
  return {rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(std::min(rows.size(), kMost))};
}

template <class T>
double cost_unit(const Samples<T>& samples, const std::string& name) {
  constexpr int kMost = 960;  // powers of two, beside which costs far under and over the energy have room
  const int exponent =
      samples.mean_energy() > 0 ? std::ilogb(samples.mean_energy()) + 2 * std::ilogb(samples.unit()) : 0;
  SHRINKWARP_REQUIRE(std::abs(exponent) <= kMost, ValueError, name, ": the mean of 1/2 ||x||^2 is some 2^", exponent,
                     ", wanted 2^", -kMost, " to 2^", kMost, ": observations in other units");
  return samples.unit() * samples.unit();
}

template class Samples<float>;
template class Samples<double>;
template double cost_unit<float>(const Samples<float>&, const std::string&);
template double cost_unit<double>(const Samples<double>&, const std::string&);

}  // namespace shrinkwarp
