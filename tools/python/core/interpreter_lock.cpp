#include <shrinkwarp/tools/python/core/interpreter_lock.hpp>

#include <unistd.h>

namespace shrinkwarp::python {

void stop_for_good() {
  while (true) pause();
}

}  // namespace shrinkwarp::python
