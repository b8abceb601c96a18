// Inputs are read up to their first and last elements and not beyond, on every target: tensors begin, or end,
// where pages of memory do that may not be touched.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>
#include <string>

#include "cenote/runtime.h"
#include "cenote/window.h"
#include "conformance/replay.h"

namespace cenote {
namespace {

using cenote_test::TargetGuard;

/// Zeros, dense, whose first element begins, or whose last one ends, beside a page whose use is a fault.
class TensorAtEdge {
 public:
  TensorAtEdge(DType dtype, const Dims& sizes, Layout layout, bool at_end) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = static_cast<std::size_t>(element_count(sizes)) * size_of(dtype);
    const std::size_t inside = (bytes + page - 1) / page * page;
    mapped_ = inside + 2 * page;
    memory_ = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    char* const first = static_cast<char*>(memory_) + page;
    if (mprotect(first, inside, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
    std::memset(first, 0, inside);
    view_ = {first + (at_end ? inside - bytes : 0), dtype, sizes, dense_strides(sizes, layout, 1)};
  }
  TensorAtEdge(const TensorAtEdge&) = delete;
  TensorAtEdge& operator=(const TensorAtEdge&) = delete;
  ~TensorAtEdge() { munmap(memory_, mapped_); }
  operator TensorView() const { return view_; }       // NOLINT(google-explicit-constructor)
  operator ConstTensorView() const { return view_; }  // NOLINT(google-explicit-constructor)

 private:
  void* memory_;
  std::size_t mapped_;
  TensorView view_;
};

struct Window {
  std::int64_t kernel, stride, padding;
};

/// All passes; a fault ends the test.
void pool_at_edge(DType dtype, Layout layout, const Dims& sizes, const Window& window, bool at_end) {
  const MaxPoolOptions max{.kernel = window.kernel, .stride = window.stride, .padding = window.padding};
  const AvgPoolOptions avg{.kernel = window.kernel, .stride = window.stride, .padding = window.padding};
  const Dims y_sizes = max_pool2d_shape(sizes, max);
  const TensorAtEdge x(dtype, sizes, layout, at_end), y(dtype, y_sizes, layout, at_end);
  const TensorAtEdge record(DType::u8, y_sizes, layout, at_end);
  const TensorView taps = record;
  max_pool2d_into(y, x, max);
  max_pool2d_into(y, x, max, &taps);
  avg_pool2d_into(y, x, avg);
  if (dtype == DType::u8) return;  // which has no gradients
  max_pool2d_backward_into(x, y, taps, max);
  avg_pool2d_backward_into(x, y, avg);
}

TEST(PageEdges, NothingIsReadBeyond) {
  const Window windows[] = {{2, 1, 0}, {2, 2, 0}, {2, 2, 1}, {3, 1, 1}, {3, 2, 0},
                            {3, 2, 1}, {4, 4, 0}, {5, 1, 2}, {7, 3, 2}};
  for (const std::string& name : cpu_targets()) {
    const TargetGuard target(name);
    for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::u8}) {
      for (const bool at_end : {false, true}) {
        for (const Window& window : windows) {
          for (const std::int64_t columns : {8, 9, 14, 17, 31, 40, 70, 130}) {
            for (const std::int64_t channels : {1, 3}) {
              pool_at_edge(dtype, Layout::kChannelsFirst, {1, channels, 9, columns}, window, at_end);
            }
          }
          for (const std::int64_t channels : {2, 3, 8, 9, 17, 33, 40})
            pool_at_edge(dtype, Layout::kChannelsLast, {1, channels, 7, 9}, window, at_end);
        }
      }
    }
  }
}

}  // namespace
}  // namespace cenote
