// How much memory a call takes beside what it returns: the heap of the whole process, watched.
#pragma once

#include <cstdint>

namespace cenote_bench {

/// Counts from its beginning; one at a time. Memory that a library keeps for later calls counts where it is
/// first taken, and what it maps by itself does not count.
class HeapWatch {
 public:
  HeapWatch();
  ~HeapWatch();
  HeapWatch(const HeapWatch&) = delete;
  HeapWatch& operator=(const HeapWatch&) = delete;

  /// Bytes taken and not given back.
  std::int64_t live() const;
  /// The most that were live at once, at least 0.
  std::int64_t peak() const;
};

}  // namespace cenote_bench
