// Named tensors of a network, as Python has them.
#pragma once

#include <string>

#include <nanobind/nanobind.h>

#include <shrinkwarp/runtime/io/safetensors.hpp>

namespace shrinkwarp::python {

/// Each tensor of float or double as an array of NumPy's, by its name.
nanobind::dict to_dict(const Safetensors& file);

/// The same back. @param values  arrays of NumPy's of float32 or float64 in C order, by their names  @throws ValueError
Safetensors from_dict(const nanobind::dict& values);

}  // namespace shrinkwarp::python
