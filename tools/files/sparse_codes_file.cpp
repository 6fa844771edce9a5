#include <shrinkwarp/tools/files/sparse_codes_file.hpp>

#include <limits>

namespace shrinkwarp {

SparseCodesFile::SparseCodesFile(const std::string& path, std::int64_t atoms)
    : writer_(path),
      atoms_(atoms),
      data_(writer_.add("data", ElementType::f8)),
      indices_(writer_.add("indices", ElementType::i4)),
      lambda_(writer_.add("lambda", ElementType::f8)),
      objective_(writer_.add("objective", ElementType::f8)),
      dual_gap_(writer_.add("dual_gap", ElementType::f8)),
      iterations_(writer_.add("iterations", ElementType::i8)),
      converged_(writer_.add("converged", ElementType::b1)) {}

void SparseCodesFile::append(const LassoBatch& batch) {
  const std::int64_t start = indptr_.back();
  for (std::size_t i = 1; i < batch.codes.offsets.size(); ++i) indptr_.push_back(start + batch.codes.offsets[i]);
  const auto put = [&](int id, const auto& values) {
    writer_.append(id, values.data(), static_cast<std::int64_t>(values.size()));
  };
  put(data_, batch.codes.values);
  put(indices_, batch.codes.indices);
  put(lambda_, batch.lambda);
  put(objective_, batch.objective);
  put(dual_gap_, batch.dual_gap);
  put(iterations_, batch.iterations);
  put(converged_, batch.converged);
}

void SparseCodesFile::finish() {
  const std::int64_t shape[] = {static_cast<std::int64_t>(indptr_.size()) - 1, atoms_};
  if (indptr_.back() <= std::numeric_limits<std::int32_t>::max()) {
    const std::vector<std::int32_t> narrow(indptr_.begin(), indptr_.end());
    writer_.put("indptr", ElementType::i4, {static_cast<std::int64_t>(narrow.size())}, narrow.data());
  } else {
    writer_.put("indptr", ElementType::i8, {static_cast<std::int64_t>(indptr_.size())}, indptr_.data());
  }
  writer_.put("shape", ElementType::i8, {2}, shape);
  writer_.put_text("format", "csr");
  writer_.finish();
}

}  // namespace shrinkwarp
