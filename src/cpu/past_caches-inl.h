// Stores past the caches (past_caches.h), which are fast in whole lines only: vectors that fill lines one
// after the other are stored as they come, other elements are collected into lines first.
#if defined(CENOTE_CPU_PAST_CACHES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CENOTE_CPU_PAST_CACHES_INL_H_
#undef CENOTE_CPU_PAST_CACHES_INL_H_
#else
#define CENOTE_CPU_PAST_CACHES_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/past_caches.h"
#include "cpu/scratch.h"
#include "cpu/vector-inl.h"
#include "hwy/cache_control.h"

HWY_BEFORE_NAMESPACE();
namespace cenote::cpu {
namespace HWY_NAMESPACE {

constexpr std::int64_t kLineBytes = 64;

inline std::int64_t bytes_into_line(const void* address) {
  return static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(address) % kLineBytes);
}

/// Whole lines, to the begin of one.
HWY_INLINE void CopyLines(const char* from, char* to, std::int64_t bytes) {
  const hn::ScalableTag<std::uint8_t> d;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  const auto* bytes_from = reinterpret_cast<const std::uint8_t*>(from);
  auto* bytes_to = reinterpret_cast<std::uint8_t*>(to);
  for (std::int64_t i = 0; i < bytes; i += step) {
    if constexpr (HWY_TARGET == HWY_SCALAR) {
      bytes_to[i] = bytes_from[i];
    } else {
      hn::Stream(hn::LoadU(d, bytes_from + i), d, bytes_to + i);
    }
  }
}

/// Neighbours; the lines that they fill in part are stored as usual.
template <class T>
HWY_INLINE void CopyPastCaches(const T* elements, T* to_elements, std::int64_t count) {
  const char* from = reinterpret_cast<const char*>(elements);
  char* to = reinterpret_cast<char*>(to_elements);
  std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t head = std::min(bytes, (kLineBytes - bytes_into_line(to)) % kLineBytes);
  std::memcpy(to, from, static_cast<std::size_t>(head));
  bytes -= head;
  const std::int64_t lines = bytes / kLineBytes * kLineBytes;
  CopyLines(from + head, to + head, lines);
  std::memcpy(to + head + lines, from + head + lines, static_cast<std::size_t>(bytes - lines));
}

/// Elements on their way to memory, collected into whole lines. Runs of them that follow each other in memory
/// share the lines between them.
class OutputLines {
 public:
  static constexpr std::int64_t kBeyond = 2 * HWY_MAX_BYTES;

  OutputLines() = default;
  OutputLines(const OutputLines&) = delete;
  OutputLines& operator=(const OutputLines&) = delete;
  ~OutputLines() {
    if (memory_.get() == nullptr) return;
    flush();
    hwy::FlushStream();
  }

  /// Where to put the elements that belong at `to`, `bytes` of them, before done(bytes). They may be put
  /// there again, and kBeyond bytes after them are room, too.
  char* room(void* to, std::int64_t bytes) {
    auto* const address = static_cast<char*>(to);
    if (address != line_ + end_) {
      flush();
      begin_ = end_ = bytes_into_line(address);
      line_ = address - begin_;
    }
    if (end_ + bytes > capacity_) grow(bytes);
    return memory_.get() + end_;
  }
  void done(std::int64_t bytes) {
    end_ += bytes;
    if (end_ >= kCollected) flush_lines();
  }

 private:
  static constexpr std::int64_t kCollected = 4096;

  void grow(std::int64_t bytes) {
    flush();
    capacity_ = bytes + kCollected + kLineBytes;
    memory_.resize(static_cast<std::size_t>(capacity_ + kBeyond));
  }
  /// The whole lines; the last one, which is not, becomes the first.
  void flush_lines() {
    std::int64_t done = 0;
    if (begin_ > 0 && end_ >= kLineBytes) {
      std::memcpy(line_ + begin_, memory_.get() + begin_, static_cast<std::size_t>(kLineBytes - begin_));
      begin_ = 0;
      done = kLineBytes;
    }
    const std::int64_t lines = end_ / kLineBytes * kLineBytes;
    if (lines > done) CopyLines(memory_.get() + done, line_ + done, lines - done);
    if (lines == 0) return;
    std::memcpy(memory_.get(), memory_.get() + lines, static_cast<std::size_t>(end_ - lines));
    line_ += lines;
    end_ -= lines;
  }
  void flush() {
    if (end_ == begin_) return;
    flush_lines();
    std::memcpy(line_ + begin_, memory_.get() + begin_, static_cast<std::size_t>(end_ - begin_));
    begin_ = end_;
  }

  Scratch<char> memory_;  // as `line_`, whose elements before begin_ are not ours
  char* line_ = nullptr;
  std::int64_t begin_ = 0;
  std::int64_t end_ = 0;
  std::int64_t capacity_ = 0;
};

/// Stores vectors over the channels of pixels, past the caches where that is wanted and they fill whole
/// lines. One per thread.
class VectorStores {
 public:
  /// Of vectors that fill whole lines.
  explicit VectorStores(bool past) : past_(past) {}
  /// To pixels of so many channels, one after the other.
  template <class Tensor>
  VectorStores(bool past, const Tensor& to, std::int64_t channels)
      : past_(past && fills_lines(to, channels)) {}
  VectorStores(const VectorStores&) = delete;
  VectorStores& operator=(const VectorStores&) = delete;
  ~VectorStores() {
    if (past_) hwy::FlushStream();
  }
  bool past() const { return past_; }
  template <class D, class T>
  HWY_INLINE void store(D d, VecOf<D> v, T* to) const {
#if HWY_TARGET != HWY_SCALAR
    if (past_) {
      if constexpr (kIsHalf<T>) {
        const HalvesTag<D> dh;
        if constexpr (hn::MaxLanes(HalvesTag<D>()) * 2 >= 16)
          return hn::Stream(RoundToHalves<T>(d, v), dh, &to->bits);
      } else {
        return hn::Stream(v, d, to);
      }
    }
#endif
    StoreVector(d, v, to);
  }

 private:
  template <class Tensor>
  static bool fills_lines(const Tensor& to, std::int64_t channels) {
    const auto size = static_cast<std::int64_t>(size_of(to.dtype));
    const auto whole = [&](std::int64_t elements) { return elements * size % kLineBytes == 0; };
    return bytes_into_line(to.data) == 0 && whole(channels) &&
           std::all_of(to.stride.begin(), to.stride.end(),
                       [&](const std::int64_t& stride) { return &stride == &to.stride[1] || whole(stride); });
  }

  bool past_;
};

}  // namespace HWY_NAMESPACE
}  // namespace cenote::cpu
HWY_AFTER_NAMESPACE();

#endif
