// The sections of the page, one function each.
#include "network/report/report.h"

#include "network/error_text.h"
#include "network/report/html.h"

namespace cenote::network {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { padding: 0.2rem 0.8rem; border-bottom: 1px solid #8886; text-align: left; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.curves img { max-width: 100%; height: auto; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: 0.8rem; }
.grid figure { margin: 0; padding: 0.4rem; border: 2px solid #4a48; border-radius: 4px; }
.grid figure.wrong { border-color: #c22; }
.grid img { width: 100%; image-rendering: pixelated; }
.grid figcaption { font-size: 0.8rem; line-height: 1.3; }
)";

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("{}", fmt::join(shape, " x "));
}

std::string settings_section(const Report& report) {
  std::vector<std::vector<std::string>> rows;
  rows.reserve(report.settings.size());
  for (const auto& [name, value] : report.settings) rows.push_back({name, value});
  return "<h2>Settings</h2>\n" + html_table({"setting", "value"}, rows, 2);
}

std::string curves_section(const Report& report) {
  std::string html = "<h2>Curves</h2>\n";
  if (!report.curves_svg.empty()) {
    html += "<p class=\"curves\">" +
            inline_image(report.curves_svg, "image/svg+xml", "Loss and accuracy by epoch") + "</p>\n";
  }
  const bool baseline = !report.history.empty() && report.history.back().baseline_images_per_second > 0;
  std::vector<std::string> header = {"epoch", "training loss", "validation loss", "validation accuracy",
                                     "images/s"};
  if (baseline) header.insert(header.end(), {"plain torch: images/s", "plain torch: accuracy"});
  std::vector<std::vector<std::string>> rows;
  for (const EpochMetrics& m : report.history) {
    rows.push_back({fmt::format("{}", m.epoch), fmt::format("{:.4f}", m.training_loss),
                    fmt::format("{:.4f}", m.validation_loss),
                    fmt::format("{:.2f}%", m.validation_accuracy * 100),
                    fmt::format("{:.0f}", m.images_per_second)});
    if (!baseline) continue;
    rows.back().push_back(fmt::format("{:.0f}", m.baseline_images_per_second));
    rows.back().push_back(fmt::format("{:.2f}%", m.baseline_validation_accuracy * 100));
  }
  return html + html_table(header, rows, 0);
}

std::vector<std::string> counts(const LayerCost& cost) {
  return {with_thousands(cost.parameters), with_thousands(cost.multiply_adds), with_thousands(cost.other)};
}

std::string layers_section(const Report& report) {
  std::vector<std::vector<std::string>> rows;
  for (const LayerCost& layer : report.layers) {
    rows.push_back({layer.name, layer.kind, shape_text(layer.output)});
    for (std::string& text : counts(layer)) rows.back().push_back(std::move(text));
  }
  rows.push_back({"total", "", ""});
  for (std::string& text : counts(total_cost(report.layers))) rows.back().push_back(std::move(text));
  return "<h2>Layers</h2>\n<p>For one image. A multiply-add is one product added to a sum; the last column "
         "counts the additions of averages and the comparisons of maxima and ReLUs.</p>\n" +
         html_table({"layer", "kind", "output", "parameters", "multiply-adds", "other operations"}, rows, 3);
}

std::string heads_section(const Report& report) {
  std::vector<std::vector<std::string>> rows;
  for (const HeadCost& head : report.heads) {
    rows.push_back({head.name, head.used ? "this run" : "the alternative"});
    for (std::string& text : counts(head.head)) rows.back().push_back(std::move(text));
    rows.back().push_back(with_thousands(head.network.parameters));
    rows.back().push_back(with_thousands(head.network.multiply_adds));
  }
  return "<h2>The head: global average pooling beside a fully connected layer</h2>\n" +
         html_table({"head", "", "parameters", "multiply-adds", "other operations", "network: parameters",
                     "network: multiply-adds"},
                    rows, 2);
}

std::string examples_section(const Report& report) {
  std::string html = fmt::format(
      "<h2>Validation images</h2>\n<p>The first {} of the validation split after the last "
      "epoch; a red frame marks a wrong prediction.</p>\n<div class=\"grid\">\n",
      report.examples.size());
  for (const Example& example : report.examples) {
    const bool right = example.truth == example.prediction;
    html += right ? "<figure>" : "<figure class=\"wrong\">";
    html += inline_image(example.png, "image/png", example.truth) +
            "<figcaption>true: " + escape_html(example.truth) +
            "<br>predicted: " + escape_html(example.prediction) + "</figcaption></figure>\n";
  }
  return html + "</div>\n";
}

}  // namespace

std::string report_html(const Report& report) {
  const std::string title = escape_html(report.title);
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         title + "</title>\n<style>" + kStyle + "</style>\n</head>\n<body>\n<h1>" + title + "</h1>\n" +
         curves_section(report) + examples_section(report) + layers_section(report) + heads_section(report) +
         settings_section(report) + "</body>\n</html>\n";
}

std::vector<HeadCost> compare_heads(const NetworkSpec& spec) {
  std::vector<HeadCost> heads;
  for (const Head head : {Head::kGap, Head::kFlatten}) {
    NetworkSpec variant = spec;
    variant.head = head;
    const std::vector<LayerCost> layers = layer_costs(variant);
    std::vector<LayerCost> own;
    for (const LayerCost& layer : layers) {
      if (layer.name == "gap" || layer.name == "flatten" || layer.name == "linear") own.push_back(layer);
    }
    heads.push_back({head == Head::kGap ? "GAP + linear" : "flatten + linear", head == spec.head,
                     total_cost(own), total_cost(layers)});
  }
  return heads;
}

}  // namespace cenote::network
