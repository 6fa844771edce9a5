#include <shrinkwarp/tools/cli/shared_inputs.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include <shrinkwarp/models/lasso/observations.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/tools/cli/agreement.hpp>

namespace shrinkwarp::cli {
namespace {

/// Consecutive observations of another source, under the numbers that they have there.
class SomeObservations : public ObservationSource {
 public:
  SomeObservations(ObservationSource& all, std::int64_t first, std::int64_t count)
      : all_(all), first_(first), count_(count) {}
  std::int64_t size() const override { return count_; }
  std::int64_t dimension() const override { return all_.dimension(); }
  std::string name() const override { return all_.name(); }
  void read(std::int64_t first, MatrixView<double> X) override {
    all_.read(first_ + first, X);
    for (std::int64_t b = 0; b < X.cols; ++b) require_finite(all_, first_ + first + b, {X.column(b), X.rows, {}});
  }

 private:
  ObservationSource& all_;
  std::int64_t first_, count_;
};

}  // namespace

Context context_of(const Ranks& ranks, const std::string& device, int threads) {
  const bool shares = !ranks.alone() && (device == "auto" || device == "cuda") && cuda_device_count() > 0;
  return Context::named(shares ? concat("cuda:", ranks.node_rank() % cuda_device_count()) : device,
                        threads > 0 ? threads : ranks.threads());
}

LoadedDictionary load_dictionary(Ranks& ranks, const Context& context, const NpyFile& file, const std::string& name) {
  const std::int64_t n = file.rows();
  const std::unique_ptr<NodeMemory> memory =
      ranks.node_memory(n * file.cols() * static_cast<std::int64_t>(sizeof(double)));
  const MatrixView<double> D{static_cast<double*>(memory->data()), n, file.cols(), n, {}};
  together(ranks, [&] {
    if (ranks.node_rank() == 0) file.read_matrix(D);
  });
  ranks.node_barrier();
  std::optional<LoadedDictionary> dictionary;
  together(ranks, [&] { dictionary.emplace(LoadedDictionary::from_matrix(context, D, name)); });
  return std::move(*dictionary);
}

double lambda_max_of_recording(Ranks& ranks, const Context& context, const Dictionary& dictionary,
                               ObservationSource& observations, const LassoOptions& lasso) {
  double found = 0;
  together(ranks, [&] {
    if (ranks.alone()) {
      found = recording_lambda_max(context, dictionary, observations, lasso);
      return;
    }
    const std::int64_t share = (observations.size() + ranks.size() - 1) / ranks.size();
    const std::int64_t first = std::min(observations.size(), share * ranks.rank());
    SomeObservations some(observations, first, std::min(share, observations.size() - first));
    if (some.size() > 0) found = recording_lambda_max(context, dictionary, some, lasso);
  });
  ranks.largest(found);
  return found;
}

void require_same_on_all(Ranks& ranks, const Fingerprint& fingerprint) {
  if (ranks.alone()) return;
  const std::string of_first = ranks.text_of(0, fingerprint.text());
  together(ranks, [&] {
    const std::string difference = fingerprint.difference(of_first);
    SHRINKWARP_REQUIRE(difference.empty(), Error, "rank 0 differs from this one: ", difference,
                       "; all ranks have to make the same bits");
  });
}

}  // namespace shrinkwarp::cli
