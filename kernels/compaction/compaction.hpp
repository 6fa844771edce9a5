// Moving problems in and out of a batch: column moves that close the holes, codes in another matrix's units and type,
// and the sparse form of finished codes.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Copies columns within a matrix.
///
///   matrix[:, to[i]] <- matrix[:, from[i]]
///
/// @param matrix    [rows, N]; a vector of N elements is the case rows = 1
/// @param from, to  [count], column numbers; `to` distinct, and no column in both
///
/// Determinism  same bits on every backend. Cost: 2 rows count sizeof(T) bytes. Allocates no, synchronises no,
///              capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void move_columns(const Context& context, MatrixView<T> matrix, VectorView<const std::int32_t> from,
                  VectorView<const std::int32_t> to);

/// Copies columns between matrices, each times a factor, with a change of type where the types differ.
///
///   target[:, to[i]] <- (To)((double)source[:, from[i]] factor[i])
///
/// @param source  [m, N], read only; must not overlap target
/// @param from    [count], column numbers of source, each from 0 to N - 1
/// @param factor  [count], on the device
/// @param to      [count], column numbers of target, distinct
/// @param target  [m, P], the columns named by `to` are written
///
/// Numerics     one product in double, one rounding to To; exact for powers of two within To's range
/// Determinism  same bits on every backend. Cost: m count (sizeof(From) + sizeof(To)) bytes. Allocates no, synchronises
///              no, capturable yes
/// @throws ShapeError, DeviceError
template <class From, class To>
void scale_columns(const Context& context, identity_t<MatrixView<const From>> source,
                   VectorView<const std::int32_t> from, VectorView<const double> factor,
                   VectorView<const std::int32_t> to, MatrixView<To> target);

/// Bytes of scratch for the functions below, for `problems` columns.
std::int64_t compaction_scratch(const Context& context, std::int64_t problems);

/// Numbers of the columns whose flag is set, in ascending order.
///
/// @param flags     [N] of {0, 1}
/// @param selected  [N], the first *count elements are written
/// @param count     [1], on the device, written
/// @param scratch   compaction_scratch() bytes on the device
///
/// Determinism  same result on every backend (CUB on CUDA). Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError
void select_columns(const Context& context, VectorView<const std::uint8_t> flags, VectorView<std::int32_t> selected,
                    VectorView<std::int64_t> count, VectorView<std::uint8_t> scratch);

/// Where each selected column's nonzeros start in the sparse result.
///
///   offsets[0] = 0,  offsets[i + 1] = offsets[i] + number of nonzeros of codes[:, columns[i]]
///
/// @param codes    [m, N]
/// @param columns  [count]
/// @param offsets  [count + 1], written
/// @param scratch  compaction_scratch() bytes on the device
///
/// Determinism  same result on every backend. Cost: reads m count sizeof(T). Allocates no, synchronises no,
///              capturable yes
/// @throws ShapeError, DeviceError
template <class T>
void sparse_offsets(const Context& context, identity_t<MatrixView<const T>> codes,
                    VectorView<const std::int32_t> columns, VectorView<std::int64_t> offsets,
                    VectorView<std::uint8_t> scratch);

/// Nonzeros of the selected columns, rows ascending within a column: the CSR rows of the result, a problem a row.
///
/// @param codes    [m, N]
/// @param columns  [count]
/// @param offsets  [count + 1], from sparse_offsets
/// @param indices  [offsets[count]], written
/// @param values   [offsets[count]], written; (double) of the code
///
/// Determinism  same bits on every backend. Cost: reads m count sizeof(T). Allocates no, synchronises no, capturable
/// yes
/// @throws ShapeError, DeviceError
template <class T>
void sparse_fill(const Context& context, identity_t<MatrixView<const T>> codes, VectorView<const std::int32_t> columns,
                 VectorView<const std::int64_t> offsets, VectorView<std::int32_t> indices, VectorView<double> values);

}  // namespace shrinkwarp
