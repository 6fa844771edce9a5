#include <shrinkwarp/tools/certify/codes_file.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/io/file.hpp>
#include <shrinkwarp/runtime/io/npy.hpp>
#include <shrinkwarp/runtime/io/npz.hpp>

namespace shrinkwarp::certify {
namespace {

/// The elements as T, where they are `A` or `B`. @throws ValueError
template <class T, class A, class B>
std::vector<T> converted(const NpyArray& array, const std::string& path, const char* name, const char* wanted) {
  SHRINKWARP_REQUIRE(array.header.type == element_type<A>() || array.header.type == element_type<B>(), ValueError, path,
                     ": array '", name, "': found elements ", array.header.descr(), ", wanted ", wanted);
  std::vector<T> values;
  if (array.header.type == element_type<A>()) {
    const VectorView<const A> found = array.as<A>();
    values.assign(found.data, found.data + found.size);
  } else {
    const VectorView<const B> found = array.as<B>();
    values.assign(found.data, found.data + found.size);
  }
  return values;
}

void require_length(const NpyArray& array, const std::string& path, const char* name, std::int64_t length) {
  SHRINKWARP_REQUIRE(array.header.shape == std::vector<std::int64_t>{length}, ShapeError, path, ": array '", name,
                     "': found shape ", printable(shape_text(array.header.shape)), ", wanted (", length, ",)");
}

std::optional<ClaimedNumbers> claimed(const NpzReader& file, const char* name, std::int64_t problems) {
  if (!file.contains(name)) return std::nullopt;
  const NpyArray array = file.read(name);
  require_length(array, file.path(), name, problems);
  return ClaimedNumbers{converted<double, float, double>(array, file.path(), name, "<f4 or <f8"),
                        array.header.type == ElementType::f4};
}

Claims read_claims(const NpzReader& file, std::int64_t problems) {
  Claims claims;
  claims.lambda = claimed(file, "lambda", problems);
  claims.objective = claimed(file, "objective", problems);
  claims.dual_gap = claimed(file, "dual_gap", problems);
  if (claims.lambda) {
    for (std::size_t i = 0; i < claims.lambda->values.size(); ++i) {
      const double value = claims.lambda->values[i];
      SHRINKWARP_REQUIRE(value >= 0 && std::isfinite(value), ValueError, file.path(), ": array 'lambda': entry ", i,
                         " is ", value, ", wanted a finite number >= 0");
    }
  }
  if (file.contains("converged")) {
    const NpyArray array = file.read("converged");
    require_length(array, file.path(), "converged", problems);
    SHRINKWARP_REQUIRE(reads_as(array.header.type, ElementType::u1), ValueError, file.path(),
                       ": array 'converged': found elements ", array.header.descr(), ", wanted |b1");
    const VectorView<const std::uint8_t> found = array.as<std::uint8_t>();
    claims.converged.emplace(found.data, found.data + found.size);
  }
  return claims;
}

/// An array of A or B elements that is read as T in pieces.
template <class T, class A, class B>
class Column {
 public:
  Column(NpzStream stream, const std::string& path, const char* name, const char* wanted) : stream_(std::move(stream)) {
    const ArrayHeader& header = stream_.header();
    SHRINKWARP_REQUIRE(header.type == element_type<A>() || header.type == element_type<B>(), ValueError, path,
                       ": array '", name, "': found elements ", header.descr(), ", wanted ", wanted);
    SHRINKWARP_REQUIRE(header.shape.size() == 1, ShapeError, path, ": array '", name, "': found shape ",
                       printable(shape_text(header.shape)), ", wanted one dimension");
  }
  const ArrayHeader& header() const { return stream_.header(); }
  /// Replaces `out` by the next `count` elements.
  void read(std::int64_t count, std::vector<T>& out) {
    out.clear();
    while (count > 0) {  // piece by piece: memory comes with the data, whatever indptr says
      const std::int64_t piece = std::min<std::int64_t>(count, 1 << 18);
      buffer_.resize(static_cast<std::size_t>(piece * header().item_size));
      stream_.read(buffer_.data(), piece);
      if (header().type == element_type<A>()) {
        append<A>(piece, out);
      } else {
        append<B>(piece, out);
      }
      count -= piece;
    }
  }

 private:
  template <class E>
  void append(std::int64_t count, std::vector<T>& out) {
    for (std::int64_t i = 0; i < count; ++i) {
      E element;
      std::memcpy(&element, buffer_.data() + static_cast<std::size_t>(i) * sizeof(E), sizeof(E));
      out.push_back(static_cast<T>(element));
    }
  }
  NpzStream stream_;
  std::vector<std::byte> buffer_;
};

}  // namespace

struct CodesFile::Impl {
  virtual ~Impl() = default;
  virtual void read_rows(std::int64_t count, CodeRows& out) = 0;

  /// @throws ValueError (`value` is not finite)
  void check(std::int64_t row, std::int64_t column, double value) const {
    SHRINKWARP_REQUIRE(std::isfinite(value), ValueError, path, ": entry (", row, ", ", column, ") is ", value,
                       ", wanted a finite number");
  }

  std::string path;
  std::int64_t size = 0;
  std::int64_t atoms = 0;
  std::int64_t next = 0;  // first row not read yet
  Claims claims;
};

struct CodesFile::SparseImpl : CodesFile::Impl {
  explicit SparseImpl(NpzReader opened) : file(std::move(opened)) {
    path = file.path();
    for (const char* name : {"format", "shape", "indptr", "indices", "data"}) {
      SHRINKWARP_REQUIRE(file.contains(name), ValueError, path, ": found no array '", name,
                         "', wanted what scipy.sparse.save_npz writes of a CSR matrix");
    }
    const NpyArray format_array = file.read("format");
    const std::string format = format_array.header.type == ElementType::s && format_array.header.size() == 1
                                   ? format_array.text()
                                   : format_array.header.descr();
    SHRINKWARP_REQUIRE(format == "csr", ValueError, path, ": found the format '", printable(format),
                       "', wanted 'csr' (scipy.sparse: Z.tocsr())");
    const NpyArray shape_array = file.read("shape");
    require_length(shape_array, path, "shape", 2);
    const auto shape = converted<std::int64_t, std::int32_t, std::int64_t>(shape_array, path, "shape", "<i4 or <i8");
    constexpr std::int64_t kMost = std::int64_t{1} << 60;
    SHRINKWARP_REQUIRE(shape[0] >= 0 && shape[0] <= kMost && shape[1] >= 0 && shape[1] <= kMost, ShapeError, path,
                       ": array 'shape': found (", shape[0], ", ", shape[1], "), wanted sizes from 0 to ", kMost);
    size = shape[0];
    atoms = shape[1];
    const NpyArray indptr_array = file.read("indptr");
    require_length(indptr_array, path, "indptr", size + 1);
    indptr = converted<std::int64_t, std::int32_t, std::int64_t>(indptr_array, path, "indptr", "<i4 or <i8");
    SHRINKWARP_REQUIRE(indptr[0] == 0, ValueError, path, ": array 'indptr': found ", indptr[0], " first, wanted 0");
    for (std::size_t i = 1; i < indptr.size(); ++i) {
      SHRINKWARP_REQUIRE(indptr[i] >= indptr[i - 1], ValueError, path, ": array 'indptr': found ", indptr[i], " after ",
                         indptr[i - 1], " at ", i, ", wanted no descent");
    }
    indices.emplace(file.stream("indices"), path, "indices", "<i4 or <i8");
    data.emplace(file.stream("data"), path, "data", "<f4 or <f8");
    const std::int64_t entries = data->header().size();
    SHRINKWARP_REQUIRE(indices->header().size() == entries && indptr.back() <= entries, ShapeError, path, ": found ",
                       indices->header().size(), " indices and ", entries, " data for ", indptr.back(),
                       " entries of indptr, wanted as many of each");
    single = data->header().type == ElementType::f4;
    claims = read_claims(file, size);
  }

  void read_rows(std::int64_t count, CodeRows& out) override {
    const auto at = [this](std::int64_t row) { return indptr[static_cast<std::size_t>(row)]; };
    const std::int64_t begin = at(next);
    indices->read(at(next + count) - begin, columns);
    data->read(at(next + count) - begin, values);
    for (std::int64_t row = next; row < next + count; ++row) {
      const auto from = static_cast<std::size_t>(at(row) - begin), to = static_cast<std::size_t>(at(row + 1) - begin);
      bool sorted = true;
      for (std::size_t k = from; k < to; ++k) {
        SHRINKWARP_REQUIRE(columns[k] >= 0 && columns[k] < atoms, ValueError, path, ": row ", row, ": found the index ",
                           columns[k], ", wanted 0 to ", atoms - 1);
        check(row, columns[k], values[k]);
        sorted = sorted && (k == from || columns[k - 1] < columns[k]);
      }
      if (!sorted) merge(row, from, to);
      const std::size_t end = sorted ? to : merged_end;
      for (std::size_t k = from; k < end; ++k) {
        if (values[k] == 0) continue;
        out.indices.push_back(columns[k]);
        out.values.push_back(values[k]);
      }
      out.offsets.push_back(static_cast<std::int64_t>(out.values.size()));
    }
  }

  /// Sorts the entries [from, to) of a row and adds those of one column, in the file's order; they end at `merged_end`.
  void merge(std::int64_t row, std::size_t from, std::size_t to) {
    order.resize(to - from);
    std::iota(order.begin(), order.end(), from);
    std::stable_sort(order.begin(), order.end(),
                     [this](std::size_t a, std::size_t b) { return columns[a] < columns[b]; });
    merged_columns.clear();
    merged_values.clear();
    for (const std::size_t k : order) {
      if (merged_columns.empty() || merged_columns.back() != columns[k]) {
        merged_columns.push_back(columns[k]);
        merged_values.push_back(values[k]);
        continue;
      }
      double& sum = merged_values.back();
      sum += values[k];
      if (single) sum = static_cast<double>(static_cast<float>(sum));
      check(row, columns[k], sum);
    }
    std::copy(merged_columns.begin(), merged_columns.end(), columns.begin() + static_cast<std::ptrdiff_t>(from));
    std::copy(merged_values.begin(), merged_values.end(), values.begin() + static_cast<std::ptrdiff_t>(from));
    merged_end = from + merged_columns.size();
  }

  NpzReader file;
  std::vector<std::int64_t> indptr;  // [N + 1]
  std::optional<Column<std::int64_t, std::int32_t, std::int64_t>> indices;
  std::optional<Column<double, float, double>> data;
  bool single = false;  // data are float32
  std::vector<std::int64_t> columns, merged_columns;
  std::vector<double> values, merged_values;
  std::vector<std::size_t> order;
  std::size_t merged_end = 0;
};

struct CodesFile::DenseImpl : CodesFile::Impl {
  explicit DenseImpl(NpyFile opened) : file(std::move(opened)) {
    path = file.path();
    size = file.rows();
    atoms = file.cols();
  }

  void read_rows(std::int64_t count, CodeRows& out) override {
    const std::int64_t fit = std::max<std::int64_t>((1 << 20) / std::max<std::int64_t>(atoms, 1), 1);
    const std::int64_t at_once = std::min(fit, count);
    block.resize(static_cast<std::size_t>(at_once * atoms));
    for (std::int64_t first = next; first < next + count; first += at_once) {
      const std::int64_t rows = std::min(at_once, next + count - first);
      file.read_rows(first, rows, MatrixView<double>{block.data(), atoms, rows, atoms, Device{}});
      for (std::int64_t row = 0; row < rows; ++row) {
        const double* code = block.data() + row * atoms;
        for (std::int64_t j = 0; j < atoms; ++j) {
          if (code[j] == 0) continue;
          check(first + row, j, code[j]);
          out.indices.push_back(j);
          out.values.push_back(code[j]);
        }
        out.offsets.push_back(static_cast<std::int64_t>(out.values.size()));
      }
    }
  }

  NpyFile file;
  std::vector<double> block;  // [rows, atoms]
};

CodesFile::CodesFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CodesFile::CodesFile(CodesFile&&) noexcept = default;
CodesFile& CodesFile::operator=(CodesFile&&) noexcept = default;
CodesFile::~CodesFile() = default;

CodesFile CodesFile::open(const std::string& path) {
  char head[6] = {};
  {
    const InputFile file = InputFile::open("CodesFile", path);
    file.read(0, head, std::min<std::int64_t>(file.size(), sizeof(head)));
  }
  if (std::memcmp(head, "PK", 2) == 0) return CodesFile(std::make_unique<SparseImpl>(NpzReader::open(path)));
  SHRINKWARP_REQUIRE(
      std::memcmp(head, "\x93NUMPY", 6) == 0, ValueError, path,
      ": found neither an .npz nor an .npy file, wanted codes as scipy.sparse.save_npz (CSR) or numpy.save "
      "write them");
  return CodesFile(std::make_unique<DenseImpl>(NpyFile::open(path)));
}

const std::string& CodesFile::path() const noexcept {
  return impl_->path;
}
std::int64_t CodesFile::size() const noexcept {
  return impl_->size;
}
std::int64_t CodesFile::atoms() const noexcept {
  return impl_->atoms;
}
const Claims& CodesFile::claims() const noexcept {
  return impl_->claims;
}

void CodesFile::read(std::int64_t count, CodeRows& out) {
  SHRINKWARP_REQUIRE(count >= 0 && count <= impl_->size - impl_->next, ShapeError, path(), ": found ",
                     impl_->size - impl_->next, " codes left, wanted ", count);
  out.clear();
  impl_->read_rows(count, out);
  impl_->next += count;
}

}  // namespace shrinkwarp::certify
