// The report: it escapes what it shows, needs no other file, and its costs are those of the layers.
#include "network/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>

#include <cstdlib>

#include "files.h"
#include "network/model/layer_table.h"
#include "network/report/curves.h"
#include "network/report/html.h"
#include "network/report/png.h"
#include "network/train/run_folder.h"
#include "support/errors.h"

namespace cenote::network {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

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

TEST(LayerTable, CountsTheGapNetwork) {
  const auto layers = layer_costs({});
  std::vector<std::string> names;
  for (const LayerCost& layer : layers) names.push_back(layer.name);
  EXPECT_THAT(names, ElementsAre("conv1", "relu1", "conv2", "relu2", "gap", "flatten", "linear"));
  EXPECT_THAT(layers[2].output, ElementsAre(128, 14, 14));
  EXPECT_EQ(layers[0].parameters, 64 * 9 + 64);
  EXPECT_EQ(layers[0].multiply_adds, 28 * 28 * 64 * 9);
  EXPECT_EQ(layers[2].parameters, 128 * 64 * 9 + 128);
  EXPECT_EQ(layers[2].multiply_adds, 14 * 14 * 128 * 64 * 9);
  EXPECT_EQ(layers[4].other, 14 * 14 * 128);
  EXPECT_EQ(layers[6].parameters, 128 * 10 + 10);
  EXPECT_EQ(total_cost(layers).parameters, 640 + 73856 + 1290);
}

TEST(LayerTable, ShowsTheHeadsSideBySide) {
  NetworkSpec spec;
  spec.downsample = Downsample::kMax;
  const auto heads = compare_heads(spec);
  ASSERT_EQ(heads.size(), 2U);
  EXPECT_TRUE(heads[0].used);
  EXPECT_FALSE(heads[1].used);
  EXPECT_EQ(heads[0].head.parameters, 1290);
  EXPECT_EQ(heads[1].head.parameters, 14 * 14 * 128 * 10 + 10);
  EXPECT_EQ(heads[1].head.multiply_adds, 14 * 14 * 128 * 10);
}

TEST(LayerTable, RoundsOddSizesAsTheLayersDo) {
  NetworkSpec spec;
  spec.height = 7;
  spec.width = 5;
  EXPECT_THAT(layer_costs(spec)[2].output, ElementsAre(128, 4, 3));
  spec.downsample = Downsample::kAvg;
  spec.head = Head::kFlatten;
  const auto layers = layer_costs(spec);
  EXPECT_THAT(layers[3].output, ElementsAre(128, 3, 2));
  EXPECT_EQ(layers.back().multiply_adds, 128 * 3 * 2 * 10);
  spec.height = 1;
  cenote_test::expect_invalid([&] { layer_costs(spec); }, {"1x5 are too small"});
}

Report example_report() {
  Report report;
  report.title = "run <one>";
  report.settings = {{"data folder", "/tmp/<script>alert(1)</script>"}};
  report.history = {{1, 1.4457, 1.5384, 0.4564, 1350, 0, 0}};
  report.layers = layer_costs({});
  report.heads = compare_heads({});
  const std::uint8_t pixel = 0;
  report.examples = {{encode_png(&pixel, 1, 1, 1), "T-shirt & top", "\"Bag\""},
                     {encode_png(&pixel, 1, 1, 1), "Bag", "Bag"}};
  report.curves_svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";
  return report;
}

TEST(Report, ShowsEverythingAndEscapesIt) {
  const std::string html = report_html(example_report());
  for (const char* text :
       {"run &lt;one&gt;", "&lt;script&gt;alert", "T-shirt &amp; top", "&quot;Bag&quot;", "1.4457", "45.64%",
        "73,856", "250,890", "128 x 14 x 14", "this run", "the alternative"}) {
    EXPECT_THAT(html, HasSubstr(text));
  }
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, HasSubstr("<figure class=\"wrong\">"));
}

TEST(Report, NeedsNothingFromOutside) {
  const std::string html = report_html(example_report());
  for (const char* text : {"http:", "https:", "href=", "url(", "@import", "<link", "<iframe"}) {
    EXPECT_THAT(html, Not(HasSubstr(text)));
  }
  for (std::size_t at = html.find("src="); at != std::string::npos; at = html.find("src=", at + 1)) {
    EXPECT_EQ(html.substr(at, 10), "src=\"data:");
  }
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
