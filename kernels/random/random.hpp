// Filling vectors with counter-based random numbers. Element i of the output is a function of (seed, stream, offset +
// i) alone, so any split of a range, on any backend and any number of threads, gives the same bits. The scalar
// functions are in philox.hpp.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Random bits.
///
///   out[i] = word (offset + i) mod 4 of Philox4x32-10 with key `seed` and counter (stream, (offset + i) div 4)
///
/// @param seed    any value; different seeds give independent sequences
/// @param stream  any value; different streams of a seed give independent sequences
/// @param offset  >= 0, the position in the sequence of out[0]
/// @param out     [size], written
///
/// Numerics     integers. All fills of one (seed, stream) read the same bits: independent draws need their own streams
/// Determinism  same bits on every backend and for every split
/// Cost         4 size bytes written, about 25 integer operations an element. Scratch none. Allocates no, synchronises
///              no, capturable yes
/// @throws ShapeError (size < 0), DeviceError, ValueError (offset < 0, offset + size over 2^63 - 1, out null),
///         CudaError
void fill_bits(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
               VectorView<std::uint32_t> out);

/// Uniform numbers in [0, 1): multiples of 2^-24 (float, one word of bits each) or 2^-53 (double, two words each).
///
/// Arguments, determinism and errors as for fill_bits. Cost: size sizeof(T) bytes written, 25 (float) or 50 (double)
/// integer operations an element. Scratch none. Allocates no, synchronises no, capturable yes
template <class T>
void fill_uniform(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                  VectorView<T> out);

/// Standard normal numbers by Box and Muller: elements 2k and 2k + 1 share a radius and an angle.
/// |out| <= 6.77 (float) or 9.50 (double); the error is under 5 eps times the radius.
///
/// Arguments, determinism and errors as for fill_bits. Cost: size sizeof(T) bytes written, about 50 (float) or 100
/// (double) operations an element. Scratch none. Allocates no, synchronises no, capturable yes
template <class T>
void fill_normal(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                 VectorView<T> out);

namespace cpu {
void fill_bits(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
               VectorView<std::uint32_t> out);
template <class T>
void fill_uniform(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                  VectorView<T> out);
template <class T>
void fill_normal(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                 VectorView<T> out);
}  // namespace cpu

namespace cuda {
void fill_bits(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
               VectorView<std::uint32_t> out);
template <class T>
void fill_uniform(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                  VectorView<T> out);
template <class T>
void fill_normal(const Context& context, std::uint64_t seed, std::uint64_t stream, std::int64_t offset,
                 VectorView<T> out);
}  // namespace cuda

}  // namespace shrinkwarp
