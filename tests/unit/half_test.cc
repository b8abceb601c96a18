// Float16 and BFloat16 against the definition of rounding to nearest, ties to even.
#include "cenote/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <random>

namespace {

using cenote::BFloat16;
using cenote::Float16;

bool is_nan(float value) { return std::isnan(value); }

/// Every value of a 16-bit type survives the way to float and back.
template <class Half>
void expect_round_trip() {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    Half half;
    half.bits = static_cast<std::uint16_t>(bits);
    const auto wide = static_cast<float>(half);
    const Half back(wide);
    if (is_nan(wide)) {
      ASSERT_TRUE(is_nan(static_cast<float>(back))) << std::hex << bits;
    } else {
      ASSERT_EQ(back.bits, half.bits) << std::hex << bits;
    }
  }
}

TEST(Half, EveryValueSurvives) {
  expect_round_trip<Float16>();
  expect_round_trip<BFloat16>();
}

/// The neighbours of each pair of finite values: halfway goes to the even one, else to the nearer.
template <class Half>
void expect_nearest(std::uint16_t largest) {
  for (std::uint16_t bits = 0; bits < largest; ++bits) {
    Half low;
    Half high;
    low.bits = bits;
    high.bits = static_cast<std::uint16_t>(bits + 1);
    const double below = static_cast<float>(low);
    const double above = static_cast<float>(high);
    const auto middle = static_cast<float>((below + above) / 2);  // exact: one bit more
    const std::uint16_t even = (bits & 1U) == 0 ? low.bits : high.bits;
    ASSERT_EQ(Half(middle).bits, even) << middle;
    ASSERT_EQ(Half(-middle).bits, even | 0x8000U) << middle;
    ASSERT_EQ(Half(std::nextafter(middle, 0.0F)).bits, low.bits) << middle;
    ASSERT_EQ(Half(std::nextafter(middle, INFINITY)).bits, high.bits) << middle;
  }
}

TEST(Half, RoundsToNearestTiesToEven) {
  expect_nearest<Float16>(0x7BFF);
  expect_nearest<BFloat16>(0x7F7F);
}

TEST(Half, OverflowsToInfinity) {
  EXPECT_EQ(Float16(65504.0F).bits, 0x7BFF);
  EXPECT_EQ(Float16(65519.9F).bits, 0x7BFF);
  EXPECT_EQ(Float16(65520.0F).bits, 0x7C00);
  EXPECT_EQ(Float16(-1e30F).bits, 0xFC00);
  EXPECT_EQ(Float16(INFINITY).bits, 0x7C00);
  EXPECT_EQ(BFloat16(3.4e38F).bits, 0x7F80);
  EXPECT_EQ(BFloat16(-INFINITY).bits, 0xFF80);
}

}  // namespace
