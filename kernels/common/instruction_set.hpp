// Which instruction set the loops of the CPU's kernels run with.
#pragma once

namespace shrinkwarp {

/// Highway's name for what was chosen for this processor among the sets that gradient steps and certificates are compiled
/// for: "AVX3", "AVX2", "SSE4", "NEON" ... Bits of results depend on it. The same for the life of the process.
const char* cpu_instruction_set();

}  // namespace shrinkwarp
