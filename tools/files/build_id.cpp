#include <shrinkwarp/tools/files/build_id.hpp>

#include <elf.h>
#include <link.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include <shrinkwarp/runtime/io/hash.hpp>

namespace shrinkwarp {
namespace {

struct Ids {
  Hash hash;
  bool program = false;  // has one
};

// Adds the build-id among the notes [at, end) of a segment. @return there is one
bool add_build_id(const std::byte* at, const std::byte* end, std::size_t alignment, Hash& hash) {
  const auto padded = [alignment](std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; };
  while (static_cast<std::size_t>(end - at) >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, at, sizeof note);
    const std::size_t name = sizeof note, content = name + padded(note.n_namesz);
    if (content + note.n_descsz > static_cast<std::size_t>(end - at)) return false;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(at + name, "GNU", 4) == 0) {
      hash.add(at + content, static_cast<std::int64_t>(note.n_descsz));
      return true;
    }
    const std::size_t next = content + padded(note.n_descsz);
    if (next > static_cast<std::size_t>(end - at)) return false;
    at += next;
  }
  return false;
}

int visit(dl_phdr_info* object, std::size_t, void* target) {
  auto& ids = *static_cast<Ids*>(target);
  const bool program = object->dlpi_name[0] == '\0' && !ids.program;
  if (!program && std::strstr(object->dlpi_name, "libshrinkwarp_") == nullptr) return 0;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* begin = reinterpret_cast<const std::byte*>(object->dlpi_addr + segment.p_vaddr);
    if (!add_build_id(begin, begin + segment.p_memsz, segment.p_align == 8 ? 8 : 4, ids.hash)) continue;
    if (program) ids.program = true;
    break;
  }
  return 0;
}

}  // namespace

std::string build_id() {
  Ids ids;
  dl_iterate_phdr(visit, &ids);
  if (!ids.program) return "unknown";
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(ids.hash.value()));
  return text;
}

}  // namespace shrinkwarp
