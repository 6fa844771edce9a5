// Steps of first-order optimizers on one flat vector of parameters, for training: stochastic gradient descent with
// momentum, Adam with decoupled weight decay, and clipping of the gradient by its norm.
//
// A step of training is
//
//   squared_norm      of the gradient
//   advance_schedule  the step count, the learning rate, the factor that clips the gradient
//   sgd_step or adam_step
//
// All that changes from step to step lies in device memory, in a schedule, so the step can be recorded as a graph once and
// launched again and again, and nothing needs to come to the host. A step whose gradient is not finite is skipped on the
// device: parameters and buffers keep their bits, and the schedule counts it.
#pragma once

#include <cstdint>

#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/runtime/view.hpp>

namespace shrinkwarp {

/// Where what lies in a schedule, a vector of kSize doubles on the device of the parameters. All zero is the start. It is all
/// that a checkpoint needs beside parameters and buffers.
struct Schedule {
  static constexpr std::int64_t kSteps = 0;        ///< steps taken, t
  static constexpr std::int64_t kSkipped = 1;      ///< steps skipped, which t does not count
  static constexpr std::int64_t kRate = 2;         ///< learning rate of step t
  static constexpr std::int64_t kNorm = 3;         ///< of the last gradient, skipped or not; NaN where none is given
  static constexpr std::int64_t kFactor = 4;       ///< of the gradient, from 0 to 1; NaN where the step is skipped
  static constexpr std::int64_t kCorrection1 = 5;  ///< 1 - beta1^t
  static constexpr std::int64_t kCorrection2 = 6;  ///< 1 - beta2^t
  static constexpr std::int64_t kAdamRate = 7;     ///< rate / (1 - beta1^t)
  static constexpr std::int64_t kAdamScale = 8;    ///< 1 / sqrt(1 - beta2^t)
  static constexpr std::int64_t kOrigin = 9;       ///< steps before the first of the rates, which the caller sets
  static constexpr std::int64_t kSize = 10;
};

/// Stochastic gradient descent, in the terms of PyTorch's SGD without dampening.
struct SgdOptions {
  double momentum = 0;      ///< in [0, 1); 0 needs no velocity
  bool nesterov = false;    ///< wants momentum > 0
  double weight_decay = 0;  ///< >= 0, finite; of wd/2 ||p||^2 in the objective
};

/// Adam (Kingma, Ba 2015), with decoupled weight decay AdamW (Loshchilov, Hutter 2019).
struct AdamOptions {
  double beta1 = 0.9;       ///< in [0, 1)
  double beta2 = 0.999;     ///< in [0, 1)
  double epsilon = 1e-8;    ///< > 0, also in T; outside the square root
  double weight_decay = 0;  ///< >= 0, finite; decoupled
};

/// Elements of scratch that squared_norm needs for a gradient of `size` elements: one for each 4096 of them.
std::int64_t norm_scratch(std::int64_t size);

/// Squared norm of a gradient.
///
///   result[0] = sum_i grad[i]^2
///
/// @param grad     [P], read only; P may be 0
/// @param scratch  [>= norm_scratch(P)], overwritten
/// @param result   [1], written
///
/// Numerics     squares and sums in double, relative error at most P eps(double), in practice far less. Not finite where an
///              element is NaN or infinite, and where T is double and the sum passes its range (an element of 1e154)
/// Determinism  same bits run to run, for any number of threads and any alignment; not the same on CPU and CUDA. No atomics:
///              fixed pieces of 4096 elements, whose sums are added in a fixed order
/// Cost         P sizeof(T) bytes read, 2 flops an element: memory bound. Two launches on CUDA. Allocates no, synchronises no,
///              capturable yes
/// @throws ShapeError, DeviceError, ValueError (null pointers)
template <class T>
void squared_norm(const Context& context, VectorView<const T> grad, VectorView<double> scratch,
                  VectorView<double> result);

/// Goes on to the next step: counts it, and sets what the update that follows reads.
///
///   t <- t + 1,   rate = rates[min(t - origin, K) - 1],   factor = min(1, limit / norm),   norm = sqrt(squared_norm)
///
/// and the bias corrections of Adam, 1 - beta1^t and 1 - beta2^t. Where the norm is not finite the step is skipped instead:
/// skipped <- skipped + 1, factor = NaN, and t, the rate and the corrections stay.
///
/// @param rates         [K], K >= 1; learning rates, >= 0 and finite (not checked on the device): one for each step after the
///                      schedule's origin, which is at most the steps taken; the last one for all that follow. A training of
///                      any length gets by with the rates of one pass, with the steps taken as the origin when each begins
/// @param squared_norm  [1], or empty: then nothing is clipped or skipped
/// @param limit         > 0, the largest norm of a clipped gradient; infinite for no clipping, but a step whose gradient is not
///                      finite is skipped all the same
/// @param adam          what adam_step gets, of which beta1 and beta2 are read; sgd_step reads nothing that they make
/// @param schedule      [Schedule::kSize], updated
///
/// Numerics     double. The corrections by c <- beta c + (1 - beta): relative error at most eps / (1 - beta), and no t
///              is too large
/// Determinism  same bits on every backend
/// Cost         one thread, some 100 bytes. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (a limit that is not > 0, or is finite without squared_norm; betas)
void advance_schedule(const Context& context, VectorView<const double> rates, VectorView<const double> squared_norm,
                      double limit, const AdamOptions& adam, VectorView<double> schedule);

/// A step of stochastic gradient descent.
///
///   g = factor grad + weight_decay p
///   v <- momentum v + g
///   p <- p - rate v,   with Nesterov's momentum   p <- p - rate (g + momentum v)
///
/// Without momentum p <- p - rate g. Nothing changes where the schedule's factor is NaN.
///
/// @param grad        [P], read only, must not overlap what is written; P may be 0
/// @param options     see SgdOptions
/// @param schedule    [Schedule::kSize], advanced for this step; read only
/// @param velocity    [P], updated, zero at the start; empty where momentum is 0
/// @param parameters  [P], updated
///
/// Numerics     T: numbers of schedule and options are rounded to it; one rounding an operation, multiply-adds fused. NaN in an
///              element stays in that element
/// Determinism  same bits on every backend, for the same schedule
/// Cost         3 P sizeof(T) bytes, with momentum 5 (float: 12 and 20 bytes an element), each array once: memory bound. Scratch
///              none. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (options)
template <class T>
void sgd_step(const Context& context, identity_t<VectorView<const T>> grad, const SgdOptions& options,
              VectorView<const double> schedule, identity_t<VectorView<T>> velocity, VectorView<T> parameters);

/// A step of Adam, or AdamW where weight_decay > 0.
///
///   g = factor grad
///   m <- m + (1 - beta1) (g - m)
///   v <- v + (1 - beta2) (g^2 - v)
///   p <- p - rate weight_decay p - rate / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
///
/// Nothing changes where the schedule's factor is NaN.
///
/// @param grad        [P], read only, must not overlap what is written; P may be 0
/// @param options     see AdamOptions
/// @param schedule    [Schedule::kSize], advanced for this step with the same options; read only
/// @param first       [P], m, the average of g; updated, zero at the start
/// @param second      [P], v >= 0, the average of g^2; updated, zero at the start
/// @param parameters  [P], updated
///
/// Numerics     T: numbers of schedule and options are rounded to it, 1 - beta and not beta; one rounding an operation,
///              multiply-adds fused, square root and quotient correctly rounded. m and v are within eps / 2 / (1 - beta) of the
///              largest that they were in the last 1 / (1 - beta) steps. NaN in an element stays in that element. An element whose
///              square passes T's range (1.8e19 in float) makes v infinite and then NaN: clip
/// Determinism  same bits on every backend, for the same schedule
/// Cost         7 P sizeof(T) bytes (float: 28 an element), each array once; 12 flops, a root and a quotient: memory bound.
///              Scratch none. Allocates no, synchronises no, capturable yes
/// @throws ShapeError, DeviceError, ValueError (options)
template <class T>
void adam_step(const Context& context, identity_t<VectorView<const T>> grad, const AdamOptions& options,
               VectorView<const double> schedule, VectorView<T> first, VectorView<T> second, VectorView<T> parameters);

}  // namespace shrinkwarp
