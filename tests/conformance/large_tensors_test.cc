// Tensors of more than 2^31 elements, as in pytorch#167253 and pytorch#188957: values, indices and gradients
// against what is known of sparse inputs.
//
// Inputs are pages that nobody wrote but for a few elements: they read as zeros and take no memory. What the
// ops write takes up to 9 GiB; where so much is not available, the tests are skipped.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "cenote/adaptive.h"
#include "cenote/half.h"
#include "cenote/unpool.h"
#include "cenote/window.h"
#include "support/tensors.h"

namespace cenote_test {
namespace {

using cenote::BFloat16;
using cenote::ConstTensorView;
using cenote::Dims;
using cenote::TensorView;

constexpr std::int64_t kBeyond = std::int64_t{1} << 31;
constexpr std::int64_t kWindow = 64;  // windows of 64 x 64 lie side by side
constexpr std::int64_t kTaps = kWindow * kWindow;

std::int64_t available_gib() {
  std::ifstream file("/proc/meminfo");
  std::string name;
  std::int64_t kib = 0;
  while (file >> name >> kib) {
    if (name == "MemAvailable:") return kib >> 20;
    file.ignore(80, '\n');
  }
  return 0;
}

/// Asked once: later the memory of the outputs is taken already.
std::int64_t available_gib_at_first() {
  static const std::int64_t gib = available_gib();
  return gib;
}

constexpr std::int64_t kNeededGib = 10;
#define CENOTE_SKIP_WITHOUT_MEMORY()                                       \
  if (const std::int64_t gib = available_gib_at_first(); gib < kNeededGib) \
  GTEST_SKIP() << "needs " << kNeededGib << " GiB of memory, " << gib << " are available"

struct Form {
  LayoutKind layout;
  Dims sizes;
};

/// Zeros, of which only those that are written take memory.
class Pages {
 public:
  explicit Pages(std::size_t bytes)
      : bytes_(bytes),
        data_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                   0)) {
    if (data_ == MAP_FAILED)
      throw std::runtime_error("no address space for " + std::to_string(bytes) + " bytes");
  }
  ~Pages() { munmap(data_, bytes_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  void* data_;
};

/// [N, C, H, W] in one of the layouts.
template <class T>
class Planes {
 public:
  Planes(void* data, const Dims& sizes, LayoutKind layout) {
    view_.data = data;
    view_.dtype = cenote::DTypeOf<T>::value;
    view_.sizes = sizes;
    view_.strides = layout == LayoutKind::kChannelsLast
                        ? dense_strides(sizes, cenote::Layout::kChannelsLast, 1)
                        : dense_strides(sizes);
  }
  const TensorView& view() const { return view_; }
  operator TensorView() const { return view_; }       // NOLINT(google-explicit-constructor)
  operator ConstTensorView() const { return view_; }  // NOLINT(google-explicit-constructor)

  T& at(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
    const Dims& s = view_.strides;
    return static_cast<T*>(view_.data)[n * s[0] + c * s[1] + h * s[2] + w * s[3]];
  }
  std::int64_t count() const { return element_count(view_.sizes); }
  T& in_memory(std::int64_t place) const { return static_cast<T*>(view_.data)[place]; }

 private:
  TensorView view_;
};

/// Pages of their own, of zeros.
template <class T>
class Zeros : private Pages, public Planes<T> {
 public:
  Zeros(const Dims& sizes, LayoutKind layout)
      : Pages(static_cast<std::size_t>(element_count(sizes)) * sizeof(T)), Planes<T>(data(), sizes, layout) {}
};

/// visit(element) for one of each 1009 in memory, and for the last page.
template <class T, class Visit>
void for_samples(const Planes<T>& planes, const Visit& visit) {
  constexpr std::int64_t kPrime = 1009;
  for (std::int64_t i = 0; i < planes.count(); i += kPrime) visit(planes.in_memory(i));
  for (std::int64_t i = planes.count() - 1024; i < planes.count(); ++i) visit(planes.in_memory(i));
}

/// Something that is to be overwritten.
template <class T>
void soil(const Planes<T>& planes) {
  for_samples(planes, [](T& element) { element = static_cast<T>(-3.0F); });
}

/// The memory of every large output, soiled.
template <class T>
Planes<T> large_output(const Form& form) {
  static const Pages pages(std::size_t{9} << 30);
  const Planes<T> planes(pages.data(), form.sizes, form.layout);
  EXPECT_GT(planes.count(), kBeyond);
  EXPECT_LE(static_cast<std::size_t>(planes.count()) * sizeof(T), pages.bytes());
  soil(planes);
  return planes;
}

/// A window, and where its first and last elements lie in the plane.
struct Window {
  std::int64_t n, c, h, w;
  std::int64_t number;
  std::int64_t top() const { return h * kWindow; }
  std::int64_t left() const { return w * kWindow; }
  std::int64_t bottom() const { return top() + kWindow - 1; }
  std::int64_t right() const { return left() + kWindow - 1; }
};

Dims pooled(const Dims& sizes) { return {sizes[0], sizes[1], sizes[2] / kWindow, sizes[3] / kWindow}; }

/// visit(window) for all windows of a tensor of these sizes.
template <class Visit>
void for_each_window(const Dims& sizes, const Visit& visit) {
  const Dims outputs = pooled(sizes);
  Window window{};
  for (window.n = 0; window.n < outputs[0]; ++window.n)
    for (window.c = 0; window.c < outputs[1]; ++window.c)
      for (window.h = 0; window.h < outputs[2]; ++window.h)
        for (window.w = 0; window.w < outputs[3]; ++window.w, ++window.number) visit(window);
}

/// Some windows, the last among them, have their maximum at the end. In the others all elements are equal.
bool ends_in_maximum(const Window& window, const Dims& sizes) {
  return window.number % 997 == 5 || window.number == element_count(pooled(sizes)) - 1;
}

std::int64_t index_of(const Window& window, const Dims& sizes) {
  return ends_in_maximum(window, sizes) ? window.bottom() * sizes[3] + window.right()
                                        : window.top() * sizes[3] + window.left();
}

/// A number for the window, from 1 to 251: every dtype holds it, and 4096 times it.
template <class T>
T number_of(const Window& window) {
  return static_cast<T>(static_cast<float>(window.number % 251 + 1));
}

/// A plane beyond 2^31 positions, and 32 channels side by side.
const Form kForms[] = {{LayoutKind::kChannelsFirst, {1, 1, 46'400, 46'400}},
                       {LayoutKind::kChannelsLast, {1, 32, 8'256, 8'192}}};

void write_indices(const Zeros<std::int64_t>& indices, const Dims& sizes) {
  for_each_window(sizes, [&](const Window& at) { indices.at(at.n, at.c, at.h, at.w) = index_of(at, sizes); });
}

void write_taps(const Zeros<std::uint16_t>& taps, const Dims& sizes) {
  for_each_window(sizes, [&](const Window& at) {
    taps.at(at.n, at.c, at.h, at.w) = ends_in_maximum(at, sizes) ? kTaps - 1 : 0;
  });
}

template <class T>
void write_gradients(const Zeros<T>& grad_y, const Dims& sizes, float factor = 1) {
  for_each_window(sizes, [&](const Window& at) {
    grad_y.at(at.n, at.c, at.h, at.w) = static_cast<T>(static_cast<float>(number_of<T>(at)) * factor);
  });
}

/// Each number at the index of its window, and zeros elsewhere. Leaves zeros.
template <class T>
void expect_scattered(const Planes<T>& grad_x, const Dims& sizes) {
  std::int64_t wrong = 0;
  for_each_window(sizes, [&](const Window& at) {
    const std::int64_t index = index_of(at, sizes);
    T& element = grad_x.at(at.n, at.c, index / sizes[3], index % sizes[3]);
    wrong += static_cast<float>(element) == static_cast<float>(number_of<T>(at)) ? 0 : 1;
    element = static_cast<T>(0.0F);
  });
  for_samples(grad_x, [&](T& element) { wrong += static_cast<float>(element) == 0 ? 0 : 1; });
  EXPECT_EQ(wrong, 0);
}

/// Each number at all elements of its window, of which the corners are looked at.
template <class T>
void expect_spread(const Planes<T>& grad_x, const Dims& sizes) {
  std::int64_t wrong = 0;
  for_each_window(sizes, [&](const Window& at) {
    const auto expected = static_cast<float>(number_of<T>(at));
    for (const std::int64_t h : {at.top(), at.bottom()})
      for (const std::int64_t w : {at.left(), at.right()})
        wrong += static_cast<float>(grad_x.at(at.n, at.c, h, w)) == expected ? 0 : 1;
  });
  for_samples(grad_x, [&](T& element) { wrong += static_cast<float>(element) > 0 ? 0 : 1; });
  EXPECT_EQ(wrong, 0);
}

template <class T>
void plant_maxima(const Zeros<T>& x, const Dims& sizes) {
  for_each_window(sizes, [&](const Window& at) {
    if (ends_in_maximum(at, sizes)) x.at(at.n, at.c, at.bottom(), at.right()) = number_of<T>(at);
  });
}

TEST(LargeTensors, MaximaHaveIndicesBeyond2To31) {
  CENOTE_SKIP_WITHOUT_MEMORY();
  for (const auto& [layout, channels] :
       {std::pair{LayoutKind::kChannelsFirst, 1}, std::pair{LayoutKind::kChannelsLast, 2}}) {
    SCOPED_TRACE(name_of(layout));
    const Dims sizes{1, channels, 46'400, 46'400};
    const Zeros<float> x(sizes, layout);
    plant_maxima(x, sizes);
    const Zeros<float> y(pooled(sizes), layout);
    const Zeros<std::int64_t> indices(pooled(sizes), layout);
    cenote::max_pool2d_into(y, x, {.kernel = kWindow}, &indices.view());
    std::int64_t wrong = 0;
    for_each_window(sizes, [&](const Window& at) {
      const float expected = ends_in_maximum(at, sizes) ? number_of<float>(at) : 0;
      wrong += y.at(at.n, at.c, at.h, at.w) == expected ? 0 : 1;
      wrong += indices.at(at.n, at.c, at.h, at.w) == index_of(at, sizes) ? 0 : 1;
    });
    EXPECT_EQ(wrong, 0);
    const Dims outputs = pooled(sizes);
    EXPECT_GT(indices.at(0, channels - 1, outputs[2] - 1, outputs[3] - 1), kBeyond);
  }
}

TEST(LargeTensors, AveragesReadBeyond2To31Elements) {
  CENOTE_SKIP_WITHOUT_MEMORY();
  for (const Form& form : kForms) {
    const auto& [layout, sizes] = form;
    SCOPED_TRACE(name_of(layout));
    const Zeros<float> x(sizes, layout);
    plant_maxima(x, sizes);
    const Zeros<float> y(pooled(sizes), layout);
    cenote::avg_pool2d_into(y, x, {.kernel = kWindow});
    std::int64_t wrong = 0;
    for_each_window(sizes, [&](const Window& at) {
      const float sum = ends_in_maximum(at, sizes) ? number_of<float>(at) : 0;
      wrong += y.at(at.n, at.c, at.h, at.w) == sum / kTaps ? 0 : 1;
    });
    EXPECT_EQ(wrong, 0);
  }
}

TEST(LargeTensors, GradientsOfMaximaReachBeyond2To31Elements) {
  CENOTE_SKIP_WITHOUT_MEMORY();
  for (const Form& form : kForms) {
    const auto& [layout, sizes] = form;
    SCOPED_TRACE(name_of(layout));
    const Planes<float> grad_x = large_output<float>(form);
    const Zeros<float> grad_y(pooled(sizes), layout);
    write_gradients(grad_y, sizes);
    const Zeros<std::uint16_t> taps(pooled(sizes), layout);
    write_taps(taps, sizes);
    cenote::max_pool2d_backward_into(grad_x, grad_y, taps, {.kernel = kWindow});
    expect_scattered(grad_x, sizes);
  }
}

TEST(LargeTensors, GradientsOfAveragesReachBeyond2To31Elements) {
  CENOTE_SKIP_WITHOUT_MEMORY();
  for (const Form& form : kForms) {
    const auto& [layout, sizes] = form;
    SCOPED_TRACE(name_of(layout));
    const Planes<float> grad_x = large_output<float>(form);
    const Zeros<float> grad_y(pooled(sizes), layout);
    write_gradients(grad_y, sizes, kTaps);
    cenote::avg_pool2d_backward_into(grad_x, grad_y, {.kernel = kWindow});
    expect_spread(grad_x, sizes);
  }
}

/// Adaptive windows of an axis, which overlap by one element.
struct UnevenWindow {
  static constexpr std::int64_t kOutputs = 3;
  std::int64_t begin, end;

  UnevenWindow(std::int64_t output, std::int64_t size)
      : begin(output * size / kOutputs), end(((output + 1) * size + kOutputs - 1) / kOutputs) {}
  std::int64_t middle() const { return (begin + end) / 2; }
  float count() const { return static_cast<float>(end - begin); }
};

TEST(LargeTensors, AdaptiveGradientsReachBeyond2To31Elements) {
  CENOTE_SKIP_WITHOUT_MEMORY();
  for (const Form& form : kForms) {
    const auto& [layout, sizes] = form;
    SCOPED_TRACE(name_of(layout));
    const Dims outputs{sizes[0], sizes[1], UnevenWindow::kOutputs, UnevenWindow::kOutputs};
    const auto for_each_output = [&](const auto& visit) {
      for (std::int64_t c = 0; c < outputs[1]; ++c)
        for (std::int64_t h = 0; h < outputs[2]; ++h)
          for (std::int64_t w = 0; w < outputs[3]; ++w)
            visit(c, h, w, UnevenWindow(h, sizes[2]), UnevenWindow(w, sizes[3]));
    };
    const Zeros<float> grad_y(outputs, layout);
    const Zeros<std::int64_t> indices(outputs, layout);
    float next = 0;
    for_each_output([&](auto c, auto h, auto w, const UnevenWindow& rows, const UnevenWindow& columns) {
      grad_y.at(0, c, h, w) = ++next;
      indices.at(0, c, h, w) = (rows.end - 1) * sizes[3] + columns.end - 1;
    });

    const Planes<float> grad_x = large_output<float>(form);
    cenote::adaptive_max_pool2d_backward_into(grad_x, grad_y, indices, {{outputs[2], outputs[3]}});
    for_each_output([&](auto c, auto h, auto w, const UnevenWindow& rows, const UnevenWindow& columns) {
      float& last = grad_x.at(0, c, rows.end - 1, columns.end - 1);
      EXPECT_EQ(last, grad_y.at(0, c, h, w));
      last = 0;
    });
    for_samples(grad_x, [](float& element) { ASSERT_EQ(element, 0); });

    soil(grad_x);
    cenote::adaptive_avg_pool2d_backward_into(grad_x, grad_y, {{outputs[2], outputs[3]}});
    for_each_output([&](auto c, auto h, auto w, const UnevenWindow& rows, const UnevenWindow& columns) {
      // A product of counts and a quotient, each rounded.
      const float expected = grad_y.at(0, c, h, w) / (rows.count() * columns.count());
      const float bound = 3 * std::numeric_limits<float>::epsilon() * expected;
      EXPECT_NEAR(grad_x.at(0, c, rows.middle(), columns.middle()), expected, bound);
    });
    for_samples(grad_x, [](float& element) { ASSERT_GT(element, 0); });
  }
}

TEST(LargeTensors, UnpoolingReachesBeyond2To31Elements) {
  CENOTE_SKIP_WITHOUT_MEMORY();
  for (const Form& form : kForms) {
    const auto& [layout, sizes] = form;
    SCOPED_TRACE(name_of(layout));
    const Zeros<float> x(pooled(sizes), layout);
    write_gradients(x, sizes);
    const Zeros<std::int64_t> indices(pooled(sizes), layout);
    write_indices(indices, sizes);
    const Planes<float> y = large_output<float>(form);
    cenote::max_unpool2d_into(y, x, indices, {.kernel = kWindow});
    const Zeros<float> grad_x(pooled(sizes), layout);
    cenote::max_unpool2d_backward_into(grad_x, y, indices, {.kernel = kWindow});
    std::int64_t wrong = 0;
    for_each_window(sizes, [&](const Window& at) {
      wrong += grad_x.at(at.n, at.c, at.h, at.w) == number_of<float>(at) ? 0 : 1;
    });
    EXPECT_EQ(wrong, 0);
    expect_scattered(y, sizes);
  }
}

/// Half precision goes by way of working memory, plane by plane.
TEST(LargeTensors, GradientsOfBfloat16ReachBeyond2To31Elements) {
  CENOTE_SKIP_WITHOUT_MEMORY();
  const Form form{LayoutKind::kChannelsLast, {38, 32, 1'344, 1'344}};
  const auto& [layout, sizes] = form;
  const Planes<BFloat16> grad_x = large_output<BFloat16>(form);
  const Zeros<BFloat16> grad_y(pooled(sizes), layout);
  write_gradients(grad_y, sizes);
  const Zeros<std::uint16_t> taps(pooled(sizes), layout);
  write_taps(taps, sizes);
  cenote::max_pool2d_backward_into(grad_x, grad_y, taps, {.kernel = kWindow});
  expect_scattered(grad_x, sizes);
  write_gradients(grad_y, sizes, kTaps);
  soil(grad_x);
  cenote::avg_pool2d_backward_into(grad_x, grad_y, {.kernel = kWindow});
  expect_spread(grad_x, sizes);
}

}  // namespace
}  // namespace cenote_test
