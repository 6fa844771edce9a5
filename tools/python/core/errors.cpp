#include <shrinkwarp/tools/python/core/errors.hpp>

#include <nanobind/nanobind.h>

#include <shrinkwarp/runtime/error.hpp>

namespace shrinkwarp::python {

void translate_errors() {
  nanobind::register_exception_translator([](const std::exception_ptr& raised, void*) {
    try {
      std::rethrow_exception(raised);
    } catch (const ShapeError& error) {
      PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const ValueError& error) {
      PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const DeviceError& error) {
      PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const OutOfMemory& error) {
      PyErr_SetString(PyExc_MemoryError, error.what());
    } catch (const IoError& error) {
      PyErr_SetString(PyExc_OSError, error.what());
    } catch (const Error& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what());
    }
  });
}

}  // namespace shrinkwarp::python
