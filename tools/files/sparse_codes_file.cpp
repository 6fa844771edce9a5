#include <shrinkwarp/tools/files/sparse_codes_file.hpp>

#include <cstddef>
#include <limits>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

// The arrays in the order of the file, which is that of their ids.
enum Array : int { kData, kIndices, kIndptr, kLambda, kObjective, kDualGap, kIterations, kConverged, kDebiasedData };

struct Description {
  const char* name;
  ElementType type;
  bool of_nonzeros;         // an element a nonzero, not a problem
  std::int64_t before = 0;  // elements that are no problem's: the 0 that indptr begins with

  std::int64_t first(const SparseCodesRange& range) const {
    return before + (of_nonzeros ? range.first_nonzero : range.first);
  }
  std::int64_t count(const SparseCodesRange& range) const {
    return of_nonzeros ? range.last_nonzero - range.first_nonzero : range.last - range.first;
  }
};

bool wide(const SparseCodesSizes& sizes) {
  return sizes.nonzeros > std::numeric_limits<std::int32_t>::max();
}

std::vector<Description> descriptions(const SparseCodesSizes& sizes) {
  std::vector<Description> arrays{{"data", ElementType::f8, true},
                                  {"indices", ElementType::i4, true},
                                  {"indptr", wide(sizes) ? ElementType::i8 : ElementType::i4, false, 1},
                                  {"lambda", ElementType::f8, false},
                                  {"objective", ElementType::f8, false},
                                  {"dual_gap", ElementType::f8, false},
                                  {"iterations", ElementType::i8, false},
                                  {"converged", ElementType::b1, false}};
  if (sizes.debiased) arrays.push_back({"debiased_data", ElementType::f8, true});
  return arrays;
}

SparseCodesRange whole(const SparseCodesSizes& sizes) {
  return {0, sizes.problems, 0, sizes.nonzeros};
}

NpzLayout layout_of(const SparseCodesSizes& sizes) {
  NpzLayout layout;
  for (const Description& array : descriptions(sizes))
    layout.add(array.name, array.type, {array.before + array.count(whole(sizes))});
  return layout;
}

}  // namespace

SparseCodesFile::SparseCodesFile(const std::string& path, const SparseCodesSizes& sizes, bool shared)
    : sizes_(sizes), frame_(path, layout_of(sizes), shared) {}

void SparseCodesFile::finish(const std::string& fingerprint, const std::vector<SparseCodesRange>& ranges,
                             const std::vector<std::vector<std::uint32_t>>& checksums) {
  std::int64_t problems = 0, nonzeros = 0;
  for (const SparseCodesRange& range : ranges) {
    SHRINKWARP_REQUIRE(range.first == problems && range.first_nonzero == nonzeros, ValueError,
                       "SparseCodesFile: found a part from problem ", range.first, " and nonzero ", range.first_nonzero,
                       " on, wanted it from ", problems, " and ", nonzeros);
    problems = range.last;
    nonzeros = range.last_nonzero;
  }
  SHRINKWARP_REQUIRE(problems == sizes_.problems && nonzeros == sizes_.nonzeros, ValueError, "SparseCodesFile: found ",
                     problems, " problems and ", nonzeros, " nonzeros in all parts, wanted ", sizes_.problems, " and ",
                     sizes_.nonzeros);
  const std::vector<Description> arrays = descriptions(sizes_);
  std::vector<std::uint32_t> sums(arrays.size());
  const std::int64_t zero = 0;  // in either width
  const auto zero_bytes = element_size(arrays[kIndptr].type);
  frame_.write_at(layout_of(sizes_).offset(kIndptr), &zero, zero_bytes);
  sums[kIndptr] = zip_checksum(0, &zero, zero_bytes);
  for (std::size_t part = 0; part < ranges.size(); ++part)
    for (std::size_t i = 0; i < arrays.size(); ++i)
      sums[i] = zip_checksum_of_both(sums[i], checksums.at(part).at(i),
                                     arrays[i].count(ranges[part]) * element_size(arrays[i].type));
  const std::int64_t shape[] = {sizes_.problems, sizes_.atoms};
  frame_.finish(sums, {{"shape", NpyArray::of(ElementType::i8, {2}, shape)},
                       {"format", NpyArray::of_text("csr")},
                       {"fingerprint", NpyArray::of_text(fingerprint)}});
}

SparseCodesPart::SparseCodesPart(const std::string& path, const std::string& temporary, const SparseCodesSizes& sizes,
                                 const SparseCodesRange& range)
    : sizes_(sizes), range_(range), file_(OutputFile::joining("SparseCodesPart", path, temporary)) {
  const NpzLayout layout = layout_of(sizes);
  for (const Description& array : descriptions(sizes))
    parts_.emplace_back(file_,
                        layout.offset(static_cast<int>(parts_.size())) + array.first(range) * element_size(array.type));
}

void SparseCodesPart::append(const LassoBatch& batch, const std::vector<double>& amplitudes) {
  const auto put = [&](Array array, const auto& values) {
    if (!values.empty())
      parts_[array].append(values.data(), static_cast<std::int64_t>(values.size() * sizeof(values[0])));
  };
  for (std::int64_t i = 0; i < batch.size(); ++i)
    SHRINKWARP_REQUIRE(batch.index[static_cast<std::size_t>(i)] == range_.first + i && range_.first + i < range_.last,
                       ValueError, "SparseCodesPart: found problem ", batch.index[static_cast<std::size_t>(i)],
                       ", wanted ", range_.first + i, " of those before ", range_.last);
  const auto nonzeros = static_cast<std::int64_t>(batch.codes.values.size());
  SHRINKWARP_REQUIRE(range_.first_nonzero + nonzeros <= range_.last_nonzero, ValueError, "SparseCodesPart: found ",
                     nonzeros, " nonzeros more, wanted no more than ", range_.last_nonzero - range_.first_nonzero);
  std::vector<std::int64_t> ends(batch.codes.offsets.begin() + 1, batch.codes.offsets.end());
  for (std::int64_t& end : ends) end += range_.first_nonzero;
  if (wide(sizes_)) {
    put(kIndptr, ends);
  } else {
    put(kIndptr, std::vector<std::int32_t>(ends.begin(), ends.end()));
  }
  put(kData, batch.codes.values);
  if (sizes_.debiased) {
    SHRINKWARP_REQUIRE(amplitudes.size() == batch.codes.values.size(), ShapeError, "SparseCodesPart: found ",
                       amplitudes.size(), " amplitudes, wanted ", batch.codes.values.size());
    put(kDebiasedData, amplitudes);
  }
  put(kIndices, batch.codes.indices);
  put(kLambda, batch.lambda);
  put(kObjective, batch.objective);
  put(kDualGap, batch.dual_gap);
  put(kIterations, batch.iterations);
  put(kConverged, batch.converged);
  range_.first += batch.size();
  range_.first_nonzero += nonzeros;
}

std::vector<std::uint32_t> SparseCodesPart::finish(bool sync) {
  SHRINKWARP_REQUIRE(range_.first == range_.last && range_.first_nonzero == range_.last_nonzero, ValueError,
                     "SparseCodesPart: ", range_.last - range_.first, " problems and ",
                     range_.last_nonzero - range_.first_nonzero, " nonzeros are missing");
  std::vector<std::uint32_t> checksums;
  for (NpzPart& part : parts_) {
    part.flush();
    checksums.push_back(part.checksum());
  }
  if (sync) file_.sync();
  return checksums;
}

}  // namespace shrinkwarp
