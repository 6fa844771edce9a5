#include <shrinkwarp/tools/files/sparse_codes_file.hpp>

#include <limits>
#include <vector>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {

SparseCodesFile::SparseCodesFile(const std::string& path, std::int64_t atoms, std::int64_t nonzeros, bool debiased)
    : writer_(path), atoms_(atoms), nonzeros_(nonzeros), wide_(nonzeros > std::numeric_limits<std::int32_t>::max()) {
  data_ = writer_.add("data", ElementType::f8);
  indices_ = writer_.add("indices", ElementType::i4);
  indptr_ = writer_.add("indptr", wide_ ? ElementType::i8 : ElementType::i4);
  lambda_ = writer_.add("lambda", ElementType::f8);
  objective_ = writer_.add("objective", ElementType::f8);
  dual_gap_ = writer_.add("dual_gap", ElementType::f8);
  iterations_ = writer_.add("iterations", ElementType::i8);
  converged_ = writer_.add("converged", ElementType::b1);
  if (debiased) debiased_ = writer_.add("debiased_data", ElementType::f8);
  const std::int64_t zero = 0;  // the first element in either width
  writer_.append(indptr_, &zero, 1);
}

void SparseCodesFile::append(const LassoBatch& batch, const std::vector<double>& amplitudes) {
  const auto put = [&](int id, const auto& values) {
    writer_.append(id, values.data(), static_cast<std::int64_t>(values.size()));
  };
  for (const std::int64_t problem : batch.index)
    SHRINKWARP_REQUIRE(problem == problems_++, ValueError, "SparseCodesFile: found problem ", problem, ", wanted ",
                       problems_ - 1);
  std::vector<std::int64_t> ends(batch.codes.offsets.begin() + 1, batch.codes.offsets.end());
  for (std::int64_t& end : ends) end += entries_;
  if (!ends.empty()) entries_ = ends.back();
  if (wide_) {
    put(indptr_, ends);
  } else {
    put(indptr_, std::vector<std::int32_t>(ends.begin(), ends.end()));
  }
  put(data_, batch.codes.values);
  if (debiased_ >= 0) {
    SHRINKWARP_REQUIRE(amplitudes.size() == batch.codes.values.size(), ShapeError, "SparseCodesFile: found ",
                       amplitudes.size(), " amplitudes, wanted ", batch.codes.values.size());
    put(debiased_, amplitudes);
  }
  put(indices_, batch.codes.indices);
  put(lambda_, batch.lambda);
  put(objective_, batch.objective);
  put(dual_gap_, batch.dual_gap);
  put(iterations_, batch.iterations);
  put(converged_, batch.converged);
}

void SparseCodesFile::finish(const std::string& fingerprint) {
  SHRINKWARP_REQUIRE(entries_ == nonzeros_, ValueError, "SparseCodesFile: found ", entries_, " nonzeros, wanted ",
                     nonzeros_);
  const std::int64_t shape[] = {problems_, atoms_};
  writer_.put("shape", ElementType::i8, {2}, shape);
  writer_.put_text("format", "csr");
  writer_.put_text("fingerprint", fingerprint);
  writer_.finish();
}

}  // namespace shrinkwarp
