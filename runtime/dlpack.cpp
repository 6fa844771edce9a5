#include <shrinkwarp/runtime/dlpack.hpp>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <iterator>

#include <shrinkwarp/runtime/dlpack_abi.hpp>
#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp {
namespace {

constexpr std::uint32_t kMajor = 1;
constexpr std::uint32_t kMinor = 0;  // nothing of later minor versions is used

template <class T>
constexpr DLDataType data_type() {
  const int code = std::is_floating_point_v<T> ? kDLFloat : std::is_signed_v<T> ? kDLInt : kDLUInt;
  return {static_cast<std::uint8_t>(code), 8 * sizeof(T), 1};
}

bool same(DLDataType a, DLDataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

/// "float32", "uint8", "bfloat16"; a code that has no name here by its number.
std::string type_text(DLDataType type) {
  static constexpr const char* kNames[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  std::string text =
      type.code < std::size(kNames) ? kNames[type.code] : concat("type code ", int{type.code}, " of bits ");
  text += std::to_string(type.bits);
  return type.lanes == 1 ? text : concat(text, " x ", type.lanes);
}

std::string list_text(const std::int64_t* values, int count) {
  std::string text = "(";
  for (int i = 0; i < count; ++i) text += concat(i ? ", " : "", values[i]);
  return text + (count == 1 ? ",)" : ")");
}

/// A borrowed array after the checks that all views need.
struct Checked {
  char* data;
  Device device;
  std::int64_t shape[2];
  std::int64_t strides[2];  // in elements
};

class Check {
 public:
  Check(const DLTensor& tensor, bool read_only, const std::string& name)
      : tensor_(tensor), read_only_(read_only), name_(name) {}

  Checked run(int rank, DLDataType wanted, bool writes) const {
    SHRINKWARP_REQUIRE(tensor_.ndim == rank, ShapeError, name_, ": found ", tensor_.ndim, " dimensions, wanted ", rank);
    SHRINKWARP_REQUIRE(same(tensor_.dtype, wanted), ValueError, name_, ": found elements of ", type_text(tensor_.dtype),
                       ", wanted ", type_text(wanted));
    SHRINKWARP_REQUIRE(!(writes && read_only_), ValueError, name_, ": found a read-only array, wanted a writable one");
    Checked checked{static_cast<char*>(tensor_.data), device(), {1, 1}, {1, 1}};
    SHRINKWARP_REQUIRE(tensor_.shape, ValueError, name_, ": the shape is null");
    for (int axis = 0; axis < rank; ++axis) {
      checked.shape[axis] = tensor_.shape[axis];
      SHRINKWARP_REQUIRE(checked.shape[axis] >= 0, ShapeError, name_, ": found the shape ",
                         list_text(tensor_.shape, rank), ", wanted sizes >= 0");
    }
    // Until DLPack 1.2 null strides mean C order without gaps.
    if (rank == 2) checked.strides[0] = tensor_.strides ? tensor_.strides[0] : checked.shape[1];
    checked.strides[rank - 1] = tensor_.strides ? tensor_.strides[rank - 1] : 1;
    if (checked.shape[0] == 0 || checked.shape[1] == 0) return checked;
    SHRINKWARP_REQUIRE(checked.data, ValueError, name_, ": the data is null, but the shape is ",
                       list_text(tensor_.shape, rank));
    checked.data += tensor_.byte_offset;
    const auto address = reinterpret_cast<std::uintptr_t>(checked.data);
    SHRINKWARP_REQUIRE(address % (wanted.bits / 8) == 0, ValueError, name_, ": the first element is at an address ",
                       address % (wanted.bits / 8), " bytes past a multiple of its size, ", wanted.bits / 8,
                       ", wanted aligned elements");
    return checked;
  }

  /// The distance of columns that lie one after another, `rows` elements each.
  std::int64_t leading_dimension(const Checked& checked, int row_axis, const char* wanted) const {
    const int column_axis = 1 - row_axis;
    const std::int64_t rows = checked.shape[row_axis];
    const std::int64_t cols = checked.shape[column_axis];
    // A stride along an axis of one element, or of an empty array, says nothing.
    if (rows == 0 || cols == 0) return rows;
    const std::int64_t ld = cols == 1 ? rows : checked.strides[column_axis];
    SHRINKWARP_REQUIRE((rows == 1 || checked.strides[row_axis] == 1) && ld >= rows, ShapeError, name_,
                       ": found the strides ", list_text(checked.strides, 2), " of shape ", list_text(checked.shape, 2),
                       ", wanted ", wanted, " with ld >= ", rows);
    return ld;
  }

 private:
  Device device() const {
    // Later minor versions have kinds of devices that the enumeration of an older header cannot hold.
    std::int32_t type = 0;
    std::memcpy(&type, &tensor_.device.device_type, sizeof(type));
    switch (type) {
      case kDLCPU:
      case kDLCUDAHost:
        return {DeviceType::cpu, 0};
      case kDLCUDA:
      case kDLCUDAManaged:
        return {DeviceType::cuda, tensor_.device.device_id};
      default:
        SHRINKWARP_THROW(DeviceError, name_, ": found memory of DLPack's device type ", type, ", wanted CPU (", kDLCPU,
                         "), CUDA (", kDLCUDA, "), pinned (", kDLCUDAHost, ") or managed (", kDLCUDAManaged,
                         ") memory");
    }
  }

  const DLTensor& tensor_;
  bool read_only_;
  const std::string& name_;
};

Check check(const DLManagedTensor* unversioned, const DLManagedTensorVersioned* versioned, const std::string& name) {
  if (unversioned) return {unversioned->dl_tensor, false, name};
  SHRINKWARP_REQUIRE(versioned, ValueError, name, ": the array has been moved away");
  return {versioned->dl_tensor, (versioned->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0, name};
}

/// What a lent tensor points to: its sizes, and whoever owns the memory.
template <class Managed>
struct Loan {
  Managed tensor{};
  std::int64_t shape[2] = {};
  std::int64_t strides[2] = {};
  std::shared_ptr<const void> owner;
};

template <class Managed>
std::unique_ptr<Managed, DlpackDelete> lend_array(DLDataType type, const void* data, Device device,
                                                  std::initializer_list<std::int64_t> shape,
                                                  std::initializer_list<std::int64_t> strides,
                                                  std::shared_ptr<const void> owner) {
  std::int64_t elements = 1;
  for (const std::int64_t size : shape) elements *= size > 0;
  SHRINKWARP_REQUIRE(data || elements == 0, ValueError, "lend: the view's data is null, wanted the address of its ",
                     "elements");
  auto loan = std::make_unique<Loan<Managed>>();
  std::copy(shape.begin(), shape.end(), loan->shape);
  std::copy(strides.begin(), strides.end(), loan->strides);
  loan->owner = std::move(owner);
  DLTensor& tensor = loan->tensor.dl_tensor;
  tensor.data = const_cast<void*>(data);
  tensor.device = {device.type == DeviceType::cuda ? kDLCUDA : kDLCPU, device.index};
  tensor.ndim = static_cast<int>(shape.size());
  tensor.dtype = type;
  tensor.shape = loan->shape;
  tensor.strides = loan->strides;
  loan->tensor.deleter = [](Managed* self) { delete static_cast<Loan<Managed>*>(self->manager_ctx); };
  loan->tensor.manager_ctx = loan.get();
  return std::unique_ptr<Managed, DlpackDelete>(&loan.release()->tensor);
}

template <class Managed, class T>
std::unique_ptr<Managed, DlpackDelete> lend_view(MatrixView<T> view, std::shared_ptr<const void> owner) {
  SHRINKWARP_REQUIRE(view.rows >= 0 && view.cols >= 0 && view.ld >= view.rows, ShapeError, "lend: the view is [",
                     view.rows, ", ", view.cols, "] with ld ", view.ld, ", wanted sizes >= 0 and ld >= rows");
  return lend_array<Managed>(data_type<T>(), view.data, view.device, {view.cols, view.rows}, {view.ld, 1},
                             std::move(owner));
}

template <class Managed, class T>
std::unique_ptr<Managed, DlpackDelete> lend_view(VectorView<T> view, std::shared_ptr<const void> owner) {
  SHRINKWARP_REQUIRE(view.size >= 0, ShapeError, "lend: the view has ", view.size, " elements, wanted >= 0");
  return lend_array<Managed>(data_type<T>(), view.data, view.device, {view.size}, {1}, std::move(owner));
}

template <class View>
ManagedTensor lend_versioned(View view, bool read_only, std::shared_ptr<const void> owner) {
  ManagedTensor lent = lend_view<DLManagedTensorVersioned>(view, std::move(owner));
  lent->version = {kMajor, kMinor};
  lent->flags = read_only ? DLPACK_FLAG_BITMASK_READ_ONLY : 0;
  return lent;
}

}  // namespace

void DlpackDelete::operator()(DLManagedTensor* tensor) const noexcept {
  if (tensor && tensor->deleter) tensor->deleter(tensor);
}

void DlpackDelete::operator()(DLManagedTensorVersioned* tensor) const noexcept {
  if (tensor && tensor->deleter) tensor->deleter(tensor);
}

BorrowedArray::BorrowedArray(DLManagedTensor* tensor, std::string name) : name_(std::move(name)) {
  SHRINKWARP_REQUIRE(tensor, ValueError, name_, ": the DLManagedTensor is null");
  unversioned_.reset(tensor);
}

BorrowedArray::BorrowedArray(DLManagedTensorVersioned* tensor, std::string name) : name_(std::move(name)) {
  SHRINKWARP_REQUIRE(tensor, ValueError, name_, ": the DLManagedTensorVersioned is null");
  SHRINKWARP_REQUIRE(tensor->version.major == kMajor, ValueError, name_, ": found a tensor of DLPack ",
                     tensor->version.major, ".", tensor->version.minor, ", wanted version ", kMajor);
  versioned_.reset(tensor);
}

template <class T>
bool BorrowedArray::holds() const {
  const DLTensor* const tensor = unversioned_ ? &unversioned_->dl_tensor
                                 : versioned_ ? &versioned_->dl_tensor
                                              : nullptr;
  return tensor && same(tensor->dtype, data_type<T>());
}

template <class T>
VectorView<T> BorrowedArray::vector() const {
  const Checked checked =
      check(unversioned_.get(), versioned_.get(), name_).run(1, data_type<T>(), !std::is_const_v<T>);
  SHRINKWARP_REQUIRE(checked.shape[0] <= 1 || checked.strides[0] == 1, ShapeError, name_, ": found the stride ",
                     checked.strides[0], ", wanted 1: adjacent elements");
  return {reinterpret_cast<T*>(checked.data), checked.shape[0], checked.device};
}

template <class T>
MatrixView<T> BorrowedArray::rows_as_columns() const {
  const Check checks = check(unversioned_.get(), versioned_.get(), name_);
  const Checked checked = checks.run(2, data_type<T>(), !std::is_const_v<T>);
  const std::int64_t ld = checks.leading_dimension(checked, 1, "C order: (ld, 1)");
  return {reinterpret_cast<T*>(checked.data), checked.shape[1], checked.shape[0], ld, checked.device};
}

template <class T>
MatrixView<T> BorrowedArray::matrix() const {
  const Check checks = check(unversioned_.get(), versioned_.get(), name_);
  const Checked checked = checks.run(2, data_type<T>(), !std::is_const_v<T>);
  const std::int64_t ld = checks.leading_dimension(checked, 0, "Fortran order: (1, ld)");
  return {reinterpret_cast<T*>(checked.data), checked.shape[0], checked.shape[1], ld, checked.device};
}

template <class T>
ManagedTensor lend(MatrixView<T> view, std::shared_ptr<const void> owner) {
  return lend_versioned(view, std::is_const_v<T>, std::move(owner));
}

template <class T>
ManagedTensor lend(VectorView<T> view, std::shared_ptr<const void> owner) {
  return lend_versioned(view, std::is_const_v<T>, std::move(owner));
}

template <class T>
UnversionedManagedTensor lend_unversioned(MatrixView<T> view, std::shared_ptr<const void> owner) {
  return lend_view<DLManagedTensor>(view, std::move(owner));
}

template <class T>
UnversionedManagedTensor lend_unversioned(VectorView<T> view, std::shared_ptr<const void> owner) {
  return lend_view<DLManagedTensor>(view, std::move(owner));
}

#define SHRINKWARP_DLPACK_READ(T)                                          \
  template bool BorrowedArray::holds<T>() const;                           \
  template VectorView<T> BorrowedArray::vector<T>() const;                 \
  template MatrixView<T> BorrowedArray::rows_as_columns<T>() const;        \
  template MatrixView<T> BorrowedArray::matrix<T>() const;                 \
  template ManagedTensor lend(MatrixView<T>, std::shared_ptr<const void>); \
  template ManagedTensor lend(VectorView<T>, std::shared_ptr<const void>)
#define SHRINKWARP_DLPACK(T)                                                                      \
  SHRINKWARP_DLPACK_READ(const T);                                                                \
  SHRINKWARP_DLPACK_READ(T);                                                                      \
  template UnversionedManagedTensor lend_unversioned(MatrixView<T>, std::shared_ptr<const void>); \
  template UnversionedManagedTensor lend_unversioned(VectorView<T>, std::shared_ptr<const void>)

SHRINKWARP_DLPACK(float);
SHRINKWARP_DLPACK(double);
SHRINKWARP_DLPACK(std::int32_t);
SHRINKWARP_DLPACK(std::int64_t);
SHRINKWARP_DLPACK(std::uint8_t);

}  // namespace shrinkwarp
