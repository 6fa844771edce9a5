// CPU bodies of momentum residual layers in floating point: plain loops over pieces of a fixed size.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include <shrinkwarp/kernels/common/cpu_clones.hpp>
#include <shrinkwarp/kernels/momentum_residual/bodies.hpp>
#include <shrinkwarp/kernels/momentum_residual/momentum_element.hpp>

namespace shrinkwarp::cpu {
namespace {

constexpr std::int64_t kPiece = 8192;  // elements of a task; whole tiles
static_assert(kPiece % kInformationTile == 0, "partial sums of dgamma are of whole tiles");

// f of an element, for the loops below: where there is a bias its row is counted along.
#define SHRINKWARP_MOMENTUM_LOOPS(T)                                                                               \
  SHRINKWARP_CPU_CLONES void forward_piece(const BranchPointers<T>& branch, T gamma, T share, T* x, T* v,          \
                                           std::int64_t first, std::int64_t end) {                                 \
    if (branch.bias == nullptr) {                                                                                  \
      for (std::int64_t i = first; i < end; ++i) step_forward(gamma, share, branch.f(i, 0, x[i]), x[i], v[i]);     \
      return;                                                                                                      \
    }                                                                                                              \
    std::int64_t row = first % branch.features;                                                                    \
    for (std::int64_t i = first; i < end;) {                                                                       \
      const std::int64_t count = std::min(end - i, branch.features - row);                                         \
      for (std::int64_t k = 0; k < count; ++k)                                                                     \
        step_forward(gamma, share, branch.f(i + k, row + k, x[i + k]), x[i + k], v[i + k]);                        \
      i += count, row = 0;                                                                                         \
    }                                                                                                              \
  }                                                                                                                \
  SHRINKWARP_CPU_CLONES void step_back_piece(const T* v, T* x, std::int64_t first, std::int64_t end) {             \
    for (std::int64_t i = first; i < end; ++i) x[i] -= v[i];                                                       \
  }                                                                                                                \
  SHRINKWARP_CPU_CLONES void inverse_piece(const BranchPointers<T>& branch, T gamma, T share, const T* x, T* v,    \
                                           T* x_before, std::int64_t first, std::int64_t end) {                    \
    std::int64_t row = first % branch.features;                                                                    \
    for (std::int64_t i = first; i < end;) {                                                                       \
      const std::int64_t count = branch.bias == nullptr ? end - i : std::min(end - i, branch.features - row);      \
      for (std::int64_t k = 0; k < count; ++k) {                                                                   \
        v[i + k] = velocity_before(gamma, share, branch.f(i + k, row + k, x[i + k]), v[i + k]);                    \
        if (x_before != nullptr) x_before[i + k] = x[i + k] - v[i + k];                                            \
      }                                                                                                            \
      i += count, row = 0;                                                                                         \
    }                                                                                                              \
  }                                                                                                                \
  /* @return what the piece, a tile where it is wanted, adds to dgamma */                                          \
  SHRINKWARP_CPU_CLONES double adjoint_piece(const BranchPointers<T>& branch, T gamma, T share, bool damped,       \
                                             const T* x, const T* v, T* dx, T* dv, T* dbranch, std::int64_t first, \
                                             std::int64_t end) {                                                   \
    double sum = 0;                                                                                                \
    std::int64_t row = first % branch.features;                                                                    \
    for (std::int64_t i = first; i < end;) {                                                                       \
      const std::int64_t count = branch.bias == nullptr ? end - i : std::min(end - i, branch.features - row);      \
      for (std::int64_t k = 0; k < count; ++k) {                                                                   \
        const std::int64_t e = i + k;                                                                              \
        sum += step_adjoint(gamma, share, damped, branch.whole, branch.f(e, row + k, branch.whole ? x[e] : T(0)),  \
                            v[e], dx[e], dv[e], dbranch[e]);                                                       \
      }                                                                                                            \
      i += count, row = 0;                                                                                         \
    }                                                                                                              \
    return sum;                                                                                                    \
  }
SHRINKWARP_MOMENTUM_LOOPS(float)
SHRINKWARP_MOMENTUM_LOOPS(double)
#undef SHRINKWARP_MOMENTUM_LOOPS

/// body(first, end) for pieces of `size` elements.
template <class Body>
void in_pieces(const Context& context, std::int64_t size, const Body& body) {
  context.parallel_for((size + kPiece - 1) / kPiece,
                       [&](std::int64_t piece, int) { body(piece * kPiece, std::min(size, (piece + 1) * kPiece)); });
}

}  // namespace

template <class T>
void prepare_gammas(const Context&, VectorView<const T> learned, const GammaRange& range,
                    VectorView<MomentumGamma> gammas) {
  for (std::int64_t t = 0; t < gammas.size; ++t) gammas[t] = prepared_gamma(static_cast<double>(learned[t]), range);
}

template <class T>
void momentum_forward(const Context& context, const MomentumGamma* gamma, MomentumForm form,
                      const BranchValues<T>& branch, VectorView<T> x, VectorView<T> v) {
  const BranchPointers<T> pointers(branch);
  const auto g = static_cast<T>(gamma->value), share = static_cast<T>(share_of(*gamma, form));
  in_pieces(context, x.size, [&](std::int64_t first, std::int64_t end) {
    forward_piece(pointers, g, share, x.data, v.data, first, end);
  });
}

template <class T>
void momentum_step_back(const Context& context, VectorView<const T> v, VectorView<T> x) {
  in_pieces(context, x.size,
            [&](std::int64_t first, std::int64_t end) { step_back_piece(v.data, x.data, first, end); });
}

template <class T>
void momentum_inverse(const Context& context, const MomentumGamma* gamma, MomentumForm form,
                      const BranchValues<T>& branch, VectorView<const T> x, VectorView<T> v, VectorView<T> x_before) {
  const BranchPointers<T> pointers(branch);
  const auto g = static_cast<T>(gamma->value), share = static_cast<T>(share_of(*gamma, form));
  in_pieces(context, x.size, [&](std::int64_t first, std::int64_t end) {
    inverse_piece(pointers, g, share, x.data, v.data, x_before.empty() ? nullptr : x_before.data, first, end);
  });
}

template <class T>
void momentum_adjoint(const Context& context, const MomentumGamma* gamma, MomentumForm form,
                      const BranchValues<T>& branch, VectorView<const T> x, VectorView<const T> v,
                      const MomentumAdjoint<T>& adjoint) {
  const BranchPointers<T> pointers(branch);
  const auto g = static_cast<T>(gamma->value), share = static_cast<T>(share_of(*gamma, form));
  const bool damped = form == MomentumForm::damped, learns = !adjoint.dgamma.empty();
  const std::int64_t step = learns ? kInformationTile : kPiece;
  in_pieces(context, v.size, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin; first < end; first += step) {
      const double sum = adjoint_piece(pointers, g, share, damped, x.data, v.data, adjoint.dx.data, adjoint.dv.data,
                                       adjoint.dbranch.data, first, std::min(end, first + step));
      if (learns) adjoint.scratch[first / kInformationTile] = sum;
    }
  });
  if (learns) add_to_dgamma(*gamma, v.size, adjoint);
}

#define SHRINKWARP_INSTANTIATE(T)                                                                                     \
  template void prepare_gammas<T>(const Context&, VectorView<const T>, const GammaRange&, VectorView<MomentumGamma>); \
  template void momentum_forward<T>(const Context&, const MomentumGamma*, MomentumForm, const BranchValues<T>&,       \
                                    VectorView<T>, VectorView<T>);                                                    \
  template void momentum_step_back<T>(const Context&, VectorView<const T>, VectorView<T>);                            \
  template void momentum_inverse<T>(const Context&, const MomentumGamma*, MomentumForm, const BranchValues<T>&,       \
                                    VectorView<const T>, VectorView<T>, VectorView<T>);                               \
  template void momentum_adjoint<T>(const Context&, const MomentumGamma*, MomentumForm, const BranchValues<T>&,       \
                                    VectorView<const T>, VectorView<const T>, const MomentumAdjoint<T>&);
SHRINKWARP_INSTANTIATE(float)
SHRINKWARP_INSTANTIATE(double)
#undef SHRINKWARP_INSTANTIATE

}  // namespace shrinkwarp::cpu
