// shrinkwarp._core: the library for the Python package around it, which checks arguments, names them in errors and knows SciPy.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <shrinkwarp/commit.hpp>
#include <shrinkwarp/runtime/context.hpp>
#include <shrinkwarp/tools/python/core/cuda_arrays.hpp>
#include <shrinkwarp/tools/python/core/errors.hpp>
#include <shrinkwarp/tools/python/core/parts.hpp>

NB_MODULE(_core, module) {
  using namespace shrinkwarp;
  module.doc() = "The library behind the package shrinkwarp; call the package.";
  nanobind::set_leak_warnings(false);  // what a daemon thread or a global variable holds at exit is no leak
  module.attr("commit") = kCommit;
  python::translate_errors();
  module.def("cuda_device_count", &cuda_device_count, "Number of usable CUDA devices.");
  module.def("cuda_unavailable_reason", &cuda_unavailable_reason, "Why there is none, or an empty string.");
  module.def("is_device_name", &Context::is_name, nanobind::arg("device"),
             "Whether a device can have this name: auto, cpu, cuda, cuda:NUMBER.");
  python::add_cuda_arrays(module);
  python::add_lasso(module);
  python::add_networks(module);
  python::add_momentum(module);
}
