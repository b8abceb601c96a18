// Whether outputs that no cache holds are stored past the caches. A plain store first reads the line that it
// changes, unless the processor sees that all of it will be written; a store past the caches does not. AMD
// EPYC (family 26), two threads: 256 MiB written by plain stores 5.0 ms, past the caches 1.6 ms. Intel Xeon
// (Emerald Rapids), max 3x3 f32: stride 1 of [96, 480, 14, 14] 3.5 and 2.2 ms, stride 2 of [96, 64, 147, 147]
// backward, channels-last, 29.0 and 18.2 ms; on an older Xeon they gained nothing.
#pragma once

#include <cstdint>

#include "core/tensor5.h"

namespace cenote::cpu {

/// Whether an op that moves so many bytes stores past the caches: those that the last one of them does not
/// hold, on x86-64. CENOTE_STORE_PAST_CACHES = always or never decides otherwise.
bool stores_past_caches(std::int64_t bytes);

/// While one lives, stores_past_caches on this thread is what the op says that the calls are a part of.
class PastCachesScope {
 public:
  explicit PastCachesScope(bool past) : outer_(decided_) { decided_ = past ? 1 : 0; }
  ~PastCachesScope() { decided_ = outer_; }
  PastCachesScope(const PastCachesScope&) = delete;
  PastCachesScope& operator=(const PastCachesScope&) = delete;
  static bool decided() { return decided_ >= 0; }
  static bool past() { return decided_ > 0; }

 private:
  static inline thread_local int decided_ = -1;
  int outer_;
};

/// Whether the last cache does not hold so many bytes, whatever is stored past it.
bool beyond_caches(std::int64_t bytes);

/// Of the elements of all of these tensors.
template <class... Tensors>
std::int64_t bytes_of(const Tensors&... tensors) {
  const auto bytes = [](const auto& tensor) {
    std::int64_t count = static_cast<std::int64_t>(size_of(tensor.dtype));
    for (const std::int64_t size : tensor.size) count *= size;
    return count;
  };
  return (bytes(tensors) + ...);
}

/// Whether an op on these tensors stores past the caches.
template <class... Tensors>
bool stores_past_caches(const Tensors&... tensors) {
  return stores_past_caches(bytes_of(tensors...));
}
/// Whether it does, or the caches do not hold them.
template <class... Tensors>
bool beyond_caches(const Tensors&... tensors) {
  return stores_past_caches(tensors...) || beyond_caches(bytes_of(tensors...));
}

}  // namespace cenote::cpu
