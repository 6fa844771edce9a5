#include <shrinkwarp/tools/cli/shared_inputs.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include <shrinkwarp/models/lasso/observations.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/hash.hpp>
#include <shrinkwarp/runtime/tensor.hpp>
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

std::uint64_t hash_of_some_rows(ObservationSource& observations) {
  constexpr std::int64_t kRows = 16;
  const Tensor<double> x(Context::cpu(1), observations.dimension(), 1);
  const std::int64_t rows = std::min(kRows, observations.size());
  Hash hash;
  for (std::int64_t i = 0; i < rows; ++i) {
    observations.read(rows == 1 ? 0 : (observations.size() - 1) * i / (rows - 1), x.matrix());
    hash.add(x.data(), x.size() * static_cast<std::int64_t>(sizeof(double)));
  }
  return hash.value();
}

/// One rank of a node reads D; each takes it to its own GPU, and prepares it there.
LoadedDictionary read_once(Ranks& ranks, const Context& context, const NpyFile& file, const std::string& name) {
  const std::int64_t bytes = file.rows() * file.cols() * static_cast<std::int64_t>(sizeof(double));
  const VectorView<std::byte> memory = ranks.node_memory(bytes);
  const MatrixView<double> D{reinterpret_cast<double*>(memory.data), file.rows(), file.cols(), file.rows(), {}};
  together(ranks, [&] {
    if (ranks.node_rank() == 0) file.read_matrix(D);
  });
  ranks.node_barrier();
  std::optional<LoadedDictionary> dictionary;
  together(ranks, [&] { dictionary.emplace(LoadedDictionary::from_matrix(context, D, name)); });
  return std::move(*dictionary);
}

/// One rank of a node reads and prepares D; all use it where it then lies.
LoadedDictionary prepare_once(Ranks& ranks, const Context& context, const NpyFile& file, const std::string& name,
                              FunctionRef<void(const Dictionary&)> prepare) {
  std::optional<LoadedDictionary> dictionary;
  std::int64_t bytes = 0;
  together(ranks, [&] {
    if (ranks.node_rank() != 0) return;
    dictionary.emplace(LoadedDictionary::from_file(context, file, name));
    prepare(dictionary->dictionary);
    bytes = dictionary->flat_bytes();
  });
  const VectorView<std::byte> memory = ranks.node_memory(bytes);
  if (dictionary) dictionary->write_flat(memory);
  dictionary.reset();
  ranks.node_barrier();
  // The ranks keep the memory to their end; nothing is to be freed.
  const std::shared_ptr<const void> owner(memory.data, [](const void*) {});
  together(ranks, [&] { dictionary.emplace(LoadedDictionary::from_flat(memory, owner)); });
  return std::move(*dictionary);
}

}  // namespace

Context context_of(const Ranks& ranks, const std::string& device, int threads) {
  const bool shares = !ranks.alone() && (device == "auto" || device == "cuda") && cuda_device_count() > 0;
  return Context::named(shares ? concat("cuda:", ranks.node_rank() % cuda_device_count()) : device,
                        threads > 0 ? threads : ranks.threads());
}

LoadedDictionary load_dictionary(Ranks& ranks, const Context& context, const NpyFile& file, const std::string& name,
                                 FunctionRef<void(const Dictionary&)> prepare) {
  if (ranks.alone()) return LoadedDictionary::from_file(context, file, name);
  const std::int64_t n = file.rows();
  std::int64_t sizes[] = {n, -n, file.cols(), -file.cols()};
  ranks.largest(sizes, 4);
  together(ranks, [&] {
    SHRINKWARP_REQUIRE(sizes[0] == -sizes[1] && sizes[2] == -sizes[3], ShapeError, name, ": found ", n, " x ",
                       file.cols(), " on rank ", ranks.rank(), ", and from ", -sizes[1], " x ", -sizes[3], " to ",
                       sizes[0], " x ", sizes[2], " on all, wanted one file");
  });
  std::int64_t devices = context.is_cuda() ? 1 : 0;
  ranks.largest(&devices, 1);
  return devices > 0 ? read_once(ranks, context, file, name) : prepare_once(ranks, context, file, name, prepare);
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

void require_same_on_all(Ranks& ranks, const Fingerprint& fingerprint, ObservationSource* observations) {
  if (ranks.alone()) return;
  Fingerprint mine = fingerprint;
  together(ranks, [&] {
    if (observations) mine.add_hash("some rows of --observations", hash_of_some_rows(*observations));
  });
  const std::string of_first = ranks.text_of(0, mine.text());
  together(ranks, [&] {
    const std::string difference = mine.difference(of_first);
    SHRINKWARP_REQUIRE(difference.empty(), Error, "rank 0 differs from this one: ", difference,
                       "; all ranks have to make the same bits");
  });
}

}  // namespace shrinkwarp::cli
