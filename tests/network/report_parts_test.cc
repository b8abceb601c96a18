// What the report is made of, each by itself: HTML text, images, curves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>

#include <cstdlib>

#include "files.h"
#include "network/report/curves.h"
#include "network/report/html.h"
#include "network/report/png.h"
#include "network/train/run_folder.h"
#include "support/errors.h"

namespace cenote::network {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Html, EscapesText) {
  EXPECT_EQ(escape_html("<a href=\"x\">Tom & 'Jerry'</a>"),
            "&lt;a href=&quot;x&quot;&gt;Tom &amp; &#39;Jerry&#39;&lt;/a&gt;");
}

TEST(Html, EncodesBase64) {  // the vectors of RFC 4648
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe"), "//4=");
}

TEST(Html, GroupsDigits) {
  EXPECT_EQ(with_thousands(0), "0");
  EXPECT_EQ(with_thousands(999), "999");
  EXPECT_EQ(with_thousands(1000), "1,000");
  EXPECT_EQ(with_thousands(-1234567), "-1,234,567");
}

TEST(Png, ComesBackThroughLibpng) {
  const std::vector<std::uint8_t> planes = {1, 2, 11, 12, 21, 22};  // 3 channels of 1x2
  const std::string bytes = encode_png(planes.data(), 3, 1, 2);
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  ASSERT_NE(png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()), 0);
  image.format = PNG_FORMAT_RGB;
  std::vector<std::uint8_t> pixels(PNG_IMAGE_SIZE(image));
  ASSERT_NE(png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr), 0);
  EXPECT_THAT(pixels, ElementsAre(1, 11, 21, 2, 12, 22));
  cenote_test::expect_invalid([&] { encode_png(planes.data(), 2, 1, 1); },
                              {"channels must be 1 or 3, got 2"});
}

class Curves : public testing::Test {
 protected:
  void SetUp() override {
    write_metrics(folder_.path(), {{1, 1, 2, 0.5, 10, 0, 0}, {2, 0.5, 1, 0.75, 10, 0, 0}});
  }
  /// Programs are looked for in `folder` only, until the test ends.
  void use_programs_of(const std::filesystem::path& folder) { setenv("PATH", folder.c_str(), 1); }
  void TearDown() override { setenv("PATH", path_.c_str(), 1); }

  TemporaryFolder folder_;
  std::string path_ = std::getenv("PATH");
};

TEST_F(Curves, AreDrawn) {
  if (std::system("command -v gnuplot > /dev/null") != 0) GTEST_SKIP() << "gnuplot is not installed";
  for (const std::size_t epochs : {1, 2, 300}) {
    std::vector<EpochMetrics> history;
    for (std::size_t i = 1; i <= epochs; ++i) {
      history.push_back({static_cast<std::int64_t>(i), 1.0 / static_cast<double>(i), 2, 0.5, 10, 0, 0});
    }
    write_metrics(folder_.path(), history);
    EXPECT_EQ(draw_curves(folder_.path()), "") << epochs << " epochs";
    const std::string svg = read_bytes(folder_ / "curves.svg");
    for (const char* text : {"</svg>", "training", "validation", "Validation accuracy (%)"}) {
      EXPECT_THAT(svg, HasSubstr(text));
    }
    EXPECT_FALSE(std::filesystem::exists(folder_ / "curves.new.svg"));
  }
}

TEST_F(Curves, AreLeftOutWithoutGnuplot) {
  use_programs_of(folder_.path());
  EXPECT_THAT(draw_curves(folder_.path()), HasSubstr("gnuplot is not installed"));
}

TEST_F(Curves, KeepTheOldPictureWhenGnuplotFails) {
  write_bytes(folder_ / "curves.svg", "old");
  write_bytes(folder_ / "gnuplot", "#!/bin/sh\nprintf half > curves.new.svg\nexit 1\n");
  std::filesystem::permissions(folder_ / "gnuplot", std::filesystem::perms::owner_all);
  use_programs_of(folder_.path());
  EXPECT_THAT(draw_curves(folder_.path()), HasSubstr("gnuplot failed"));
  EXPECT_EQ(read_bytes(folder_ / "curves.svg"), "old");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "curves.new.svg"));
}

}  // namespace
}  // namespace cenote::network
