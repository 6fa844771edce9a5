// What each part adds to the module.
#pragma once

#include <nanobind/nanobind.h>

namespace shrinkwarp::python {

void add_lasso(nanobind::module_& module);
void add_networks(nanobind::module_& module);
void add_momentum(nanobind::module_& module);

}  // namespace shrinkwarp::python
