// Outputs that are stored past the caches are those of the reference, and nothing beside them is written.
// ctest runs these with CENOTE_STORE_PAST_CACHES=always, under which tensors of any size are stored so.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "cenote/global.h"
#include "cenote/runtime.h"
#include "cenote/window.h"
#include "conformance/replay.h"
#include "support/tensors.h"

namespace cenote {
namespace {

using cenote_test::TargetGuard;
using cenote_test::values_of;
using Values = std::vector<double>;

/// A dense view that begins `offset` elements into a line of the cache, with guards around it.
class PlacedTensor {
 public:
  PlacedTensor(DType dtype, const Dims& sizes, Layout layout, std::int64_t offset)
      : width_(static_cast<std::int64_t>(size_of(dtype))),
        before_(kGuard + offset * width_),
        bytes_(element_count(sizes) * width_),
        memory_(DType::u8, Dims{before_ + bytes_ + kGuard}) {
    std::memset(memory_.data<std::uint8_t>(), kPattern, static_cast<std::size_t>(before_ + bytes_ + kGuard));
    view_ = {memory_.data<std::uint8_t>() + before_, dtype, sizes, dense_strides(sizes, layout, 1)};
  }
  operator TensorView() const { return view_; }       // NOLINT(google-explicit-constructor)
  operator ConstTensorView() const { return view_; }  // NOLINT(google-explicit-constructor)
  bool guards_intact() const {
    const std::uint8_t* const all = memory_.data<std::uint8_t>();
    for (std::int64_t i = 0; i < before_ + bytes_ + kGuard; ++i) {
      const bool guard = i < before_ || i >= before_ + bytes_;
      if (guard && all[i] != kPattern) return false;
    }
    return true;
  }

 private:
  static constexpr std::int64_t kGuard = 128;
  static constexpr std::uint8_t kPattern = 0xA5;

  std::int64_t width_, before_, bytes_;
  Tensor memory_;
  TensorView view_;
};

struct Case {
  DType dtype;
  Layout layout;
  Dims sizes;
  Dims kernel, stride, padding;
};

void PrintTo(const Case& one, std::ostream* out) {
  *out << name_of(one.dtype) << (one.layout == Layout::kChannelsLast ? " channels-last " : " channels-first ")
       << to_string(one.sizes) << " kernel " << to_string(one.kernel) << " stride " << to_string(one.stride)
       << " padding " << to_string(one.padding);
}

/// Multiples of 1/4 below 16, so that sums of windows and gradients are exact in bf16's f32 lanes, too; a NaN
/// at `nan`, if that is an element.
void fill(const TensorView& view, std::int64_t nan) {
  const std::int64_t count = element_count(view.sizes);
  Values values(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    values[static_cast<std::size_t>(i)] = static_cast<double>(i * 7919 % 127 - 63) / 4;
  if (nan >= 0 && nan < count)
    values[static_cast<std::size_t>(nan)] = std::numeric_limits<double>::quiet_NaN();
  cenote_test::assign(view, values);
}

/// How much results may differ: relative to them, and, where terms cancel out, in all.
struct Bound {
  double relative = 0;
  double absolute = 0;
};

void expect_same(const Values& got, const Values& expected, const Bound& bound, const char* what) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const bool same = std::isnan(expected[i]) ? std::isnan(got[i])
                                              : std::abs(got[i] - expected[i]) <=
                                                    bound.relative * std::abs(expected[i]) + bound.absolute;
    ASSERT_TRUE(same) << what << " element " << i << ": " << got[i] << " instead of " << expected[i];
  }
}

class PastCaches : public ::testing::TestWithParam<Case> {
 protected:
  /// Runs `op` with an output of so many elements on the reference and on every target, at two places in a
  /// line.
  void compare(const char* what, const Dims& sizes, DType dtype, const Bound& bound,
               const std::function<void(const TensorView&)>& op) {
    Values expected;
    {
      const TargetGuard reference("reference");
      const PlacedTensor out(dtype, sizes, GetParam().layout, 0);
      op(out);
      expected = values_of(out);
    }
    for (const std::string& name : cpu_targets()) {
      const TargetGuard target(name);
      for (const std::int64_t offset : {0, 3}) {
        const PlacedTensor out(dtype, sizes, GetParam().layout, offset);
        op(out);
        expect_same(values_of(out), expected, bound, (name + " " + what).c_str());
        EXPECT_TRUE(out.guards_intact()) << name << " " << what;
      }
    }
  }
};

TEST_P(PastCaches, AreTheSame) {
  const auto& [dtype, layout, sizes, kernel, stride, padding] = GetParam();
  const MaxPoolOptions max{.kernel = kernel, .stride = stride, .padding = padding};
  const AvgPoolOptions avg{
      .kernel = kernel, .stride = stride, .padding = padding, .count_include_pad = false};
  const Dims y_sizes = max_pool2d_shape(sizes, max);
  const Bound bound{dtype == DType::f64 ? 1e-14 : dtype == DType::f32 ? 1e-6 : 0x1p-8};
  // Up to 25 terms below 16, of which each is rounded twice and their sums once.
  const Bound of_sums{bound.relative, 25 * 3 * 16 * (dtype == DType::f64 ? 0x1p-53 : 0x1p-24)};
  const Bound exact;
  for (const std::int64_t nan : {std::int64_t{-1}, element_count(sizes) / 2}) {
    const PlacedTensor x(dtype, sizes, layout, 0);
    fill(x, nan);
    compare("max", y_sizes, dtype, exact, [&](const TensorView& y) { max_pool2d_into(y, x, max); });
    compare("avg", y_sizes, dtype, bound, [&](const TensorView& y) { avg_pool2d_into(y, x, avg); });
    for (const DType record : {DType::u8, DType::i64}) {
      compare("indices", y_sizes, record, exact, [&](const TensorView& indices) {
        const PlacedTensor y(dtype, y_sizes, layout, 0);
        max_pool2d_into(y, x, max, &indices);
      });
    }
    compare("global avg", global_avg_pool2d_shape(sizes), dtype, bound,
            [&](const TensorView& y) { global_avg_pool2d_into(y, x); });
  }
  const PlacedTensor x(dtype, sizes, layout, 0), y(dtype, y_sizes, layout, 0),
      grad_y(dtype, y_sizes, layout, 0);
  const PlacedTensor taps(DType::u8, y_sizes, layout, 0), indices(DType::i64, y_sizes, layout, 0);
  const TensorView tap_view = taps, index_view = indices;
  fill(x, -1);
  fill(grad_y, -1);
  max_pool2d_into(y, x, max, &tap_view);
  max_pool2d_into(y, x, max, &index_view);
  for (const TensorView& record : {tap_view, index_view}) {
    compare("max backward", sizes, dtype, bound,
            [&](const TensorView& grad_x) { max_pool2d_backward_into(grad_x, grad_y, record, max); });
  }
  compare("avg backward", sizes, dtype, of_sums,
          [&](const TensorView& grad_x) { avg_pool2d_backward_into(grad_x, grad_y, avg); });
  const PlacedTensor grad_means(dtype, global_avg_pool2d_shape(sizes), layout, 0);
  fill(grad_means, -1);
  compare("global avg backward", sizes, dtype, bound,
          [&](const TensorView& grad_x) { global_avg_pool2d_backward_into(grad_x, grad_means); });
}

std::vector<Case> cases() {
  std::vector<Case> all;
  const std::vector<std::array<Dims, 3>> windows = {{Dims{3, 3}, Dims{2, 2}, Dims{1, 1}},
                                                    {Dims{3, 3}, Dims{1, 1}, Dims{1, 1}},
                                                    {Dims{2, 2}, Dims{2, 2}, Dims{0, 0}},
                                                    {Dims{5, 5}, Dims{1, 1}, Dims{2, 2}}};
  // Planes that fill blocks, in one piece and in bands; rows of whole lines and of parts of them; pixels that
  // fill lines and such that do not.
  const std::vector<Dims> sizes = {
      {2, 32, 7, 7}, {1, 17, 13, 29}, {1, 16, 40, 48}, {2, 3, 9, 70}, {1, 2, 5, 1200}};
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    for (const Layout layout : {Layout::kChannelsFirst, Layout::kChannelsLast}) {
      for (const Dims& size : sizes) {
        for (const auto& [kernel, stride, padding] : windows)
          all.push_back({dtype, layout, size, kernel, stride, padding});
      }
    }
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Cases, PastCaches, ::testing::ValuesIn(cases()));

}  // namespace
}  // namespace cenote
