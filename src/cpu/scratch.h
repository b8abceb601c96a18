// Aligned working memory of one thread; grows, never shrinks, is not initialised.
#pragma once

#include <cstddef>

#include "core/aligned.h"

namespace cenote::cpu {

template <class T>
class Scratch {
 public:
  T* resize(std::size_t count) {
    if (count > count_) {
      memory_ = AlignedMemory(count * sizeof(T));
      count_ = count;
    }
    return get();
  }
  T* get() const { return static_cast<T*>(memory_.get()); }

 private:
  AlignedMemory memory_;
  std::size_t count_ = 0;
};

}  // namespace cenote::cpu
