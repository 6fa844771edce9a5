#include <shrinkwarp/kernels/common/instruction_set.hpp>

#include <shrinkwarp/kernels/common/highway_targets.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "shrinkwarp/kernels/common/instruction_set_cpu.cpp"
#include <hwy/foreach_target.h>  // includes this file once for each other instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace shrinkwarp::cpu::HWY_NAMESPACE {

const char* InstructionSet() {
  return hwy::TargetName(HWY_TARGET);
}

}  // namespace shrinkwarp::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace shrinkwarp {
namespace cpu {

HWY_EXPORT(InstructionSet);

static const char* instruction_set() {
  static const char* const name = HWY_DYNAMIC_DISPATCH(InstructionSet)();
  return name;
}

}  // namespace cpu

const char* cpu_instruction_set() {
  return cpu::instruction_set();
}

}  // namespace shrinkwarp
#endif
