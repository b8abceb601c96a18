// The report: it escapes what it shows, needs no other file, and its costs are those of the layers.
#include "network/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "network/model/layer_table.h"
#include "network/report/png.h"
#include "support/errors.h"

namespace cenote::network {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(LayerTable, CountsTheGapNetwork) {
  const auto layers = layer_costs({});
  std::vector<std::string> names;
  names.reserve(layers.size());
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

}  // namespace
}  // namespace cenote::network
