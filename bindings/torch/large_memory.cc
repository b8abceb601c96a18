// Blocks of huge pages, and the list of those that are free.
#include "large_memory.h"

#include <c10/core/CPUAllocator.h>
#include <cenote/torch/ops.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <list>
#include <memory>
#include <mutex>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace cenote::torch_ops {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

struct Block {
  std::unique_ptr<void, Free> memory;
  std::size_t bytes = 0;
};

/// One block, or none. Blocks move from list to list by splicing, which cannot fail: they are given back in
/// destructors.
using Blocks = std::list<Block>;

/// Empty where there is no memory. Huge pages are advice: where the kernel declines, nothing changes.
Blocks take_from_system(std::size_t bytes) {
  if (bytes > std::numeric_limits<std::size_t>::max() - kHugePage) return {};
  const std::size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* memory = nullptr;
  if (posix_memalign(&memory, kHugePage, rounded) != 0) return {};
#ifdef MADV_HUGEPAGE
  madvise(memory, rounded, MADV_HUGEPAGE);
#endif
  Blocks one;
  one.push_back({std::unique_ptr<void, Free>(memory), rounded});
  return one;
}

/// A sixteenth of the machine's memory.
std::size_t default_limit() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return 0;
  return static_cast<std::size_t>(pages) / 16 * static_cast<std::size_t>(page);
}

class LargeMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    auto block = std::make_unique<Blocks>(take_kept(bytes));
    if (block->empty()) *block = take_from_system(bytes);
    if (block->empty()) {
      keep_at_most(0);
      return c10::GetCPUAllocator()->allocate(bytes);  // and torch's own error if that fails too
    }
    void* const memory = block->front().memory.get();
    c10::profiledCPUMemoryReporter().New(memory, block->front().bytes);
    return {memory, block.release(), give_back, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }  // the context is not the memory
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  void set_limit(std::size_t bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      limit_ = bytes;
    }
    keep_at_most(bytes);
  }
  /// Returns the blocks freed longest ago to the system until the rest is no more than `bytes`.
  void keep_at_most(std::size_t bytes) {
    Blocks returned;  // freed when the lock is gone
    const std::lock_guard<std::mutex> lock(mutex_);
    while (kept_bytes_ > bytes) {
      kept_bytes_ -= kept_.front().bytes;
      returned.splice(returned.end(), kept_, kept_.begin());
    }
  }

 private:
  /// The smallest kept block that holds `bytes` and is not much larger.
  Blocks take_kept(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto best = kept_.end();
    for (auto block = kept_.begin(); block != kept_.end(); ++block) {
      const bool fits = block->bytes >= bytes && block->bytes - bytes <= bytes / 4;
      if (fits && (best == kept_.end() || block->bytes < best->bytes)) best = block;
    }
    if (best == kept_.end()) return {};
    Blocks one;
    kept_bytes_ -= best->bytes;
    one.splice(one.end(), kept_, best);
    return one;
  }

  static void give_back(void* context);

  std::mutex mutex_;
  Blocks kept_;  // freed longest ago first
  std::size_t kept_bytes_ = 0;
  std::size_t limit_ = default_limit();
};

/// Never destroyed: tensors may be freed after everything static is gone.
LargeMemory& instance() {
  static auto* const memory = new LargeMemory;
  return *memory;
}

void LargeMemory::give_back(void* context) {
  const std::unique_ptr<Blocks> block(static_cast<Blocks*>(context));
  c10::profiledCPUMemoryReporter().Delete(block->front().memory.get());
  LargeMemory& memory = instance();
  std::size_t limit = 0;
  {
    const std::lock_guard<std::mutex> lock(memory.mutex_);
    limit = memory.limit_;
    if (block->front().bytes <= limit) {
      memory.kept_bytes_ += block->front().bytes;
      memory.kept_.splice(memory.kept_.end(), *block);
    }
  }
  memory.keep_at_most(limit);
}

}  // namespace

c10::Allocator* large_memory() { return &instance(); }

void empty_cache() { instance().keep_at_most(0); }

void set_cache_limit(std::size_t bytes) { instance().set_limit(bytes); }

}  // namespace cenote::torch_ops
