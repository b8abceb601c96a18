// Aligned working memory of one thread; grows, never shrinks, is not initialised.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace cenote::cpu {

template <class T>
class Scratch {
 public:
  T* resize(std::size_t count) {
    if (count > count_) {
      data_.reset(static_cast<T*>(::operator new(count * sizeof(T), kAlignment)));
      count_ = count;
    }
    return data_.get();
  }
  T* get() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(T* data) const { ::operator delete(data, kAlignment); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t count_ = 0;
};

}  // namespace cenote::cpu
