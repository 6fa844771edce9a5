// DLPack, the in-memory exchange of arrays between libraries: theirs are borrowed as views, ours are lent, and nothing is
// copied. This header names DLPack's two managed tensors and needs no dlpack.h; a program that fills or reads them itself
// includes whichever it has.
//
// The rule of .npy files holds here too: an observation or a code is a ROW of an array and a COLUMN of a view, an array
// (N, n) in C order being a view [n, N], whereas a dictionary keeps its place.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <shrinkwarp/runtime/tensor.hpp>
#include <shrinkwarp/runtime/view.hpp>

struct DLManagedTensor;           // until DLPack 0.8, Python's capsule "dltensor"
struct DLManagedTensorVersioned;  // since DLPack 1.0, "dltensor_versioned"

namespace shrinkwarp {

/// Gives a managed tensor back: calls its deleter, where it has one.
struct DlpackDelete {
  void operator()(DLManagedTensor* tensor) const noexcept;
  void operator()(DLManagedTensorVersioned* tensor) const noexcept;
};

/// A tensor that somebody has to give back. `release()` hands that duty on, to a Python capsule for example.
using ManagedTensor = std::unique_ptr<DLManagedTensorVersioned, DlpackDelete>;
using UnversionedManagedTensor = std::unique_ptr<DLManagedTensor, DlpackDelete>;

/// An array of another library, borrowed; it goes back when this object goes. Move-only. Views of it are valid until then,
/// hold no reference and may be used from any thread.
///
/// T is float, double, std::int32_t, std::int64_t or std::uint8_t, or one of these const. Nothing is converted: another
/// element type is an error. Memory counts as on the CPU when its kind is CPU or pinned host memory, as on CUDA device i
/// when it is device memory or managed memory of device i; a build without CUDA takes such a view and refuses it where it
/// is used. The lender must have made the values ready for the stream they are used on. Allocates no, synchronises no.
class BorrowedArray {
 public:
  /// @param tensor  taken over; when this throws it was not
  /// @param name    begins the message of an error
  /// @throws ValueError (nullptr, or versioned and not of DLPack 1)
  explicit BorrowedArray(DLManagedTensor* tensor, std::string name = "array");
  explicit BorrowedArray(DLManagedTensorVersioned* tensor, std::string name = "array");

  /// Whether the elements are of type T (const or not).
  template <class T>
  bool holds() const;

  /// A 1-D array of adjacent elements.
  /// @throws ShapeError (rank, stride), ValueError (element type, read-only where T is not const, a null or misaligned
  ///         address), DeviceError (a kind of memory that is none of those above)
  template <class T>
  VectorView<T> vector() const;

  /// A 2-D array (N, n), its rows one after another with any gap (strides (ld, 1), ld >= n), as [n, N] with that ld: row b
  /// is column b. @throws as vector()
  template <class T>
  MatrixView<T> rows_as_columns() const;

  /// A 2-D array (n, m) in Fortran order, with any gap (strides (1, ld), ld >= n), as [n, m] with that ld: element (i, j)
  /// stays (i, j). An array in C order has to be copied to Fortran order first. @throws as vector()
  template <class T>
  MatrixView<T> matrix() const;

 private:
  std::unique_ptr<DLManagedTensor, DlpackDelete> unversioned_;
  std::unique_ptr<DLManagedTensorVersioned, DlpackDelete> versioned_;
  std::string name_;
};

/// Lends the memory of a view: a matrix [n, N] as an array (N, n), column b being row b with strides (ld, 1); a vector as
/// (size,). A view of const elements is lent read-only, which only the versioned form can say.
///
/// @param owner  keeps the memory alive; let go when the borrower gives the tensor back, from whatever thread that does,
///               so its destructor must not throw. May be empty for memory that outlives every borrower
///
/// Values that are still being written on a context's stream are the borrower's to wait for: synchronise before, or have
/// the borrower work on that stream. Allocates a few words, synchronises no.
/// @throws ShapeError (a negative size, ld < rows), ValueError (null with elements), std::bad_alloc
template <class T>
ManagedTensor lend(MatrixView<T> view, std::shared_ptr<const void> owner);
template <class T>
ManagedTensor lend(VectorView<T> view, std::shared_ptr<const void> owner);
/// The same for borrowers that know no version; T is not const.
template <class T>
UnversionedManagedTensor lend_unversioned(MatrixView<T> view, std::shared_ptr<const void> owner);
template <class T>
UnversionedManagedTensor lend_unversioned(VectorView<T> view, std::shared_ptr<const void> owner);

/// Lends a tensor [n, N] as an array (N, n) and gives it up to the borrower.
template <class T>
ManagedTensor lend(Tensor<T>&& tensor) {
  const MatrixView<T> view = tensor.matrix();
  return lend(view, std::make_shared<Tensor<T>>(std::move(tensor)));
}

}  // namespace shrinkwarp
