// What tells one build of the program from another.
#pragma once

#include <string>

namespace shrinkwarp {

/// 16 hexadecimal digits of the build-ids that the linker gave the running program and the shared libraries
/// libshrinkwarp_* that it uses: another when their code is another, whatever the version says. "unknown" where the
/// program was linked without --build-id.
std::string build_id();

}  // namespace shrinkwarp
