#include <shrinkwarp/runtime/context.hpp>

#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include <shrinkwarp/config.hpp>
#include <shrinkwarp/runtime/cuda_device.hpp>
#include <shrinkwarp/runtime/error.hpp>
#include <shrinkwarp/runtime/processors.hpp>
#include <shrinkwarp/runtime/thread_pool.hpp>

namespace shrinkwarp {
namespace {

constexpr std::size_t kAlignment = 256;

/// 1 for "cuda:1", 0 for "cuda", -1 for anything else.
int cuda_index(const std::string& device) noexcept {
  if (device == "cuda") return 0;
  int index = -1;
  if (device.compare(0, 5, "cuda:") != 0) return -1;
  const auto [end, status] = std::from_chars(device.data() + 5, device.data() + device.size(), index);
  return status == std::errc() && end == device.data() + device.size() ? index : -1;
}

[[noreturn]] void throw_no_cuda(const char* function) {
  SHRINKWARP_THROW(BackendUnavailable, function, ": ", cuda_unavailable_reason());
}

}  // namespace

std::string processor_name() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const auto colon = line.find(':');
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos && colon + 2 <= line.size())
      return line.substr(colon + 2);
  }
  return "CPU";
}

struct Context::Impl {
  Device device;
  CudaStream stream = nullptr;
  bool owns_stream = false;
  int multiprocessors = 0;
  std::int64_t block_memory = 0;
  mutable CublasHandle cublas = nullptr;
  std::unique_ptr<ThreadPool> pool;

  ~Impl() {
    if constexpr (kHasCuda) {
      if (cublas) cuda::destroy_cublas(cublas);
      if (owns_stream) cuda::destroy_stream(stream);
    }
  }
};

Context::Context(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;
Context::~Context() = default;

Context Context::cpu(int threads) {
  SHRINKWARP_REQUIRE(threads >= 0, ValueError, "Context::cpu: threads is ", threads, ", wanted >= 0");
  auto impl = std::make_unique<Impl>();
  impl->pool = std::make_unique<ThreadPool>(threads > 0 ? threads : usable_processors());
  return Context(std::move(impl));
}

Context Context::cuda([[maybe_unused]] int index) {
  if constexpr (kHasCuda) {
    const int count = cuda_device_count();
    if (count == 0) throw_no_cuda("Context::cuda");
    SHRINKWARP_REQUIRE(index >= 0 && index < count, BackendUnavailable, "Context::cuda: device ", index,
                       " does not exist, wanted 0 to ", count - 1);
    auto impl = std::make_unique<Impl>();
    impl->device = {DeviceType::cuda, index};
    cuda::set_device(index);
    impl->stream = cuda::create_stream();
    impl->owns_stream = true;
    impl->multiprocessors = cuda::multiprocessors(index);
    impl->block_memory = cuda::block_memory(index);
    return Context(std::move(impl));
  }
  throw_no_cuda("Context::cuda");
}

Context Context::cuda_on([[maybe_unused]] CudaStream stream) {
  if constexpr (kHasCuda) {
    if (cuda_device_count() == 0) throw_no_cuda("Context::cuda_on");
    auto impl = std::make_unique<Impl>();
    impl->device = {DeviceType::cuda, cuda::current_device()};
    impl->stream = stream;
    impl->multiprocessors = cuda::multiprocessors(impl->device.index);
    impl->block_memory = cuda::block_memory(impl->device.index);
    return Context(std::move(impl));
  }
  throw_no_cuda("Context::cuda_on");
}

Context Context::best() {
  return cuda_device_count() > 0 ? cuda(0) : cpu();
}

Context Context::named(const std::string& device, int threads) {
  SHRINKWARP_REQUIRE(is_name(device), ValueError, "found the device '", device,
                     "', wanted auto, cpu, cuda or cuda:NUMBER");
  if (device == "cpu" || (device == "auto" && cuda_device_count() == 0)) return cpu(threads);
  return cuda(device == "auto" ? 0 : cuda_index(device));
}

bool Context::is_name(const std::string& device) noexcept {
  return device == "auto" || device == "cpu" || cuda_index(device) >= 0;
}

Device Context::device() const noexcept {
  return impl_->device;
}

bool Context::select_cuda() const {
  if constexpr (kHasCuda) {
    if (is_cuda()) {
      cuda::set_device(impl_->device.index);
      return true;
    }
  }
  return false;
}

std::string Context::description() const {
  if constexpr (kHasCuda) {
    if (is_cuda())
      return concat(cuda::device_name(impl_->device.index), ", ", impl_->multiprocessors, " multiprocessors");
  }
  return concat(processor_name(), ", ", threads(), threads() == 1 ? " thread" : " threads");
}

CudaStream Context::stream() const noexcept {
  return impl_->stream;
}
int Context::multiprocessors() const noexcept {
  return impl_->multiprocessors;
}
std::int64_t Context::block_memory() const noexcept {
  return impl_->block_memory;
}

CublasHandle Context::cublas() const {
  if constexpr (kHasCuda) {
    if (select_cuda()) {
      if (!impl_->cublas) impl_->cublas = cuda::create_cublas(impl_->stream);
      return impl_->cublas;
    }
  }
  SHRINKWARP_THROW(BackendUnavailable, "Context::cublas: the context is on ", device(), ", wanted a CUDA device");
}

int Context::threads() const noexcept {
  return impl_->pool ? impl_->pool->threads() : 1;
}

void Context::parallel_for(std::int64_t count, FunctionRef<void(std::int64_t, int)> body) const {
  if (impl_->pool) return impl_->pool->run(count, body);
  for (std::int64_t i = 0; i < count; ++i) body(i, 0);
}

void Context::synchronize() const {
  if constexpr (kHasCuda) {
    if (is_cuda()) cuda::synchronize(impl_->stream);
  }
}

void* Context::allocate(std::int64_t bytes) const {
  SHRINKWARP_REQUIRE(bytes >= 0, ValueError, "Context::allocate: ", bytes, " bytes asked, wanted >= 0");
  if (bytes == 0) return nullptr;
  void* pointer = nullptr;
  if constexpr (kHasCuda) {
    if (select_cuda()) pointer = cuda::allocate(static_cast<std::size_t>(bytes));
  }
  if (!is_cuda() && posix_memalign(&pointer, kAlignment, static_cast<std::size_t>(bytes)) != 0) pointer = nullptr;
  if (!pointer)
    throw OutOfMemory(concat("out of memory on ", device(), ": ", bytes, " bytes asked"), __FILE__, __LINE__, bytes);
  return pointer;
}

void Context::deallocate(Device device, void* pointer) noexcept {
  if (!pointer) return;
  if constexpr (kHasCuda) {
    if (device.type == DeviceType::cuda) return cuda::deallocate(pointer);
  }
  if (device.type == DeviceType::cpu) std::free(pointer);
}

void Context::copy_bytes(void* target, Device target_device, const void* source, Device source_device,
                         std::int64_t bytes) const {
  copy_bytes_2d(target, target_device, bytes, source, source_device, bytes, bytes, 1);
}

void Context::copy_bytes_2d(void* target, Device target_device, std::int64_t target_pitch, const void* source,
                            Device source_device, std::int64_t source_pitch, std::int64_t bytes,
                            std::int64_t count) const {
  if (bytes <= 0 || count <= 0) return;
  const Device host;
  SHRINKWARP_REQUIRE(
      (target_device == host || target_device == device()) && (source_device == host || source_device == device()),
      DeviceError, "copy: from ", source_device, " to ", target_device, " on a context of ", device(),
      ", wanted cpu or ", device());
  const auto size = static_cast<std::size_t>(bytes);
  if constexpr (kHasCuda) {
    if ((target_device != host || source_device != host) && select_cuda()) {
      cuda::copy_2d(target, static_cast<std::size_t>(target_pitch), source, static_cast<std::size_t>(source_pitch),
                    size, static_cast<std::size_t>(count), impl_->stream);
      return;
    }
  }
  auto* out = static_cast<char*>(target);
  const auto* in = static_cast<const char*>(source);
  if (target_pitch == bytes && source_pitch == bytes) {
    std::memcpy(out, in, size * static_cast<std::size_t>(count));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) std::memcpy(out + i * target_pitch, in + i * source_pitch, size);
}

void Context::zero_bytes(void* target, std::int64_t bytes) const {
  if (bytes <= 0) return;
  if constexpr (kHasCuda) {
    if (select_cuda()) return cuda::zero(target, static_cast<std::size_t>(bytes), impl_->stream);
  }
  std::memset(target, 0, static_cast<std::size_t>(bytes));
}

int cuda_device_count() noexcept {
  if constexpr (kHasCuda) return cuda::device_count(nullptr);
  return 0;
}

std::string cuda_unavailable_reason() {
  std::string reason = "this build has no CUDA backend";
  if constexpr (kHasCuda) {
    reason.clear();
    cuda::device_count(&reason);
  }
  return reason;
}

CurrentDevice::CurrentDevice() {
  if constexpr (kHasCuda) {
    if (cuda_device_count() > 0) index_ = cuda::current_device();
  }
}

CurrentDevice::~CurrentDevice() {
  if (index_ < 0) return;
  try {
    // A device that becomes current is initialised, if it has not been.
    if constexpr (kHasCuda) {
      if (cuda::current_device() != index_) cuda::set_device(index_);
    }
  } catch (const Error&) {  // a device that is lost, which whoever uses it next is told
  }
}

}  // namespace shrinkwarp
