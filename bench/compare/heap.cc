// The allocation functions of the C library, replaced for all libraries of the process by ones that count
// while somebody watches. glibc exports the originals under the names used here.
#include "heap.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>

extern "C" {
void* __libc_malloc(std::size_t size);                           // NOLINT(bugprone-reserved-identifier)
void* __libc_calloc(std::size_t count, std::size_t size);        // NOLINT(bugprone-reserved-identifier)
void* __libc_realloc(void* memory, std::size_t size);            // NOLINT(bugprone-reserved-identifier)
void* __libc_memalign(std::size_t alignment, std::size_t size);  // NOLINT(bugprone-reserved-identifier)
void __libc_free(void* memory);                                  // NOLINT(bugprone-reserved-identifier)
}

namespace {

std::atomic<bool> watched{false};
std::atomic<std::int64_t> live_bytes{0};
std::atomic<std::int64_t> peak_bytes{0};

std::int64_t size_of_block(void* memory) { return static_cast<std::int64_t>(malloc_usable_size(memory)); }

void* taken(void* memory) {
  if (!watched.load(std::memory_order_relaxed) || memory == nullptr) return memory;
  const std::int64_t bytes = size_of_block(memory);
  const std::int64_t live = live_bytes.fetch_add(bytes) + bytes;
  std::int64_t peak = peak_bytes.load();
  while (live > peak && !peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return memory;
}

void give_back(void* memory) {
  if (watched.load(std::memory_order_relaxed) && memory != nullptr)
    live_bytes.fetch_sub(size_of_block(memory));
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) { return taken(__libc_malloc(size)); }

void* calloc(std::size_t count, std::size_t size) { return taken(__libc_calloc(count, size)); }

void* realloc(void* memory, std::size_t size) {
  give_back(memory);
  return taken(__libc_realloc(memory, size));
}

void* memalign(std::size_t alignment, std::size_t size) { return taken(__libc_memalign(alignment, size)); }

void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return taken(__libc_memalign(alignment, size));
}

int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  const int before = errno;
  *memory = taken(__libc_memalign(alignment, size));
  errno = before;
  return *memory == nullptr ? ENOMEM : 0;
}

void free(void* memory) {
  give_back(memory);
  __libc_free(memory);
}

}  // extern "C"

namespace cenote_bench {

HeapWatch::HeapWatch() {
  live_bytes = 0;
  peak_bytes = 0;
  watched = true;
}

HeapWatch::~HeapWatch() { watched = false; }

std::int64_t HeapWatch::live() const { return live_bytes; }

std::int64_t HeapWatch::peak() const { return std::max<std::int64_t>(0, peak_bytes); }

}  // namespace cenote_bench
