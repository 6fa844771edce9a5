#pragma once

#include <shrinkwarp/runtime/context.hpp>

namespace shrinkwarp::cpu {

/// For what a task calls: it runs on the thread of the task, and on no other.
inline const Context& this_thread() {
  thread_local const Context context = Context::cpu(1);
  return context;
}

}  // namespace shrinkwarp::cpu
