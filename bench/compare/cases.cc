// The rows of each extent, and the parts that the tables of rows are made of.
#include "cases.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <stdexcept>

#include "cenote/tensor.h"

namespace cenote_bench {

namespace {

using Sizes = std::vector<std::int64_t>;

cenote::Dims dims_of(const Sizes& values) { return {values.data(), values.size()}; }

bool all_equal(const Sizes& values) {
  return std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) == values.end();
}

/// "3" where all are 3, else "3x5".
std::string short_text(const Sizes& values) {
  if (all_equal(values)) return std::to_string(values.front());
  return fmt::format("{}", fmt::join(values, "x"));
}

std::string window_title(const char* kind, int rank, const Window& window) {
  const Sizes kernel = window.kernel.size() == 1
                           ? Sizes(static_cast<std::size_t>(rank), window.kernel.front())
                           : window.kernel;
  std::string title = fmt::format("{} {} s{}", kind, fmt::join(kernel, "x"), short_text(window.stride));
  if (window.padding != Sizes{0}) title += " p" + short_text(window.padding);
  if (window.dilation != 1) title += fmt::format(" d{}", window.dilation);
  if (window.ceil_mode) title += " ceil";
  return title;
}

Op window_op(const char* kind, int rank, const Window& window) {
  Op op{window_title(kind, rank, window), fmt::format("{}_pool{}d", kind, rank)};
  op.arguments.kernel = dims_of(window.kernel);
  op.arguments.stride = dims_of(window.stride);
  op.arguments.padding = dims_of(window.padding);
  op.arguments.dilation = window.dilation;
  op.arguments.ceil_mode = window.ceil_mode;
  return op;
}

Op output_op(const char* title, const char* name, std::int64_t size) {
  Op op{title, name};
  op.arguments.output_size = size;
  return op;
}

/// The ops that are measured on three shapes, with all their passes.
std::vector<Op> every_op() {
  const auto two_by_two = [](const char* title, const char* name) {
    Op op = max_op(2, square(2, 2));
    op.title = title;
    op.name = name;
    return op;
  };
  Op lp = max_op(2, square(3, 2));
  lp.title = "lp2 3x3 s2";
  lp.name = "lp_pool2d";
  Op median = lp;
  median.title = "median 3x3 s2";
  median.name = "median_pool2d";
  Op fractional{"fractional max 2x2 0.7", "fractional_max_pool2d"};
  fractional.arguments.kernel = 2;
  fractional.arguments.output_ratio = {0.7};
  return {max_op(2, square(3, 2, 1)),
          max_op(2, square(2, 2)),
          avg_op(2, square(2, 2)),
          {"GAP", "global_avg_pool2d"},
          output_op("adaptive avg 7x7", "adaptive_avg_pool2d", 7),
          output_op("adaptive max 7x7", "adaptive_max_pool2d", 7),
          fractional,
          two_by_two("max unpool 2x2 s2", "max_unpool2d"),
          lp,
          two_by_two("soft 2x2 s2", "soft_pool2d"),
          two_by_two("lse 2x2 s2", "lse_pool2d"),
          median,
          {"global gem p3", "global_gem_pool2d"},
          {"global std", "global_std_pool2d"},
          {"global lp2", "global_lp_pool2d"}};
}

/// Of equal elements torch's expression of a median may choose another than the op, so that neither its
/// indices nor its gradients can be compared.
std::vector<const char*> passes_of(const Op& op) {
  if (op.name == "median_pool2d") return {kForward};
  if (cenote::find_op(op.name)->records_indices) return {kForward, kForwardIndices, kBackward};
  return {kForward, kBackward};
}

std::vector<Row> op_rows(const std::vector<Sizes>& shapes) {
  std::vector<Row> rows;
  for (const Sizes& shape : shapes) {
    for (const Op& op : every_op()) {
      for (const Row& row : with_layouts({{"ops", "", op, shape}})) {
        const std::vector<Row> passes = with_passes({row}, passes_of(op));
        rows.insert(rows.end(), passes.begin(), passes.end());
      }
    }
  }
  return rows;
}

/// What the names of the rows begin with that the quick run takes.
constexpr const char* kQuickNames[] = {
    "headline GoogLeNet v1 3a",
    "headline GoogLeNet v1 pool5",
    "headline GoogLeNet v3 mixed_1 ",
    "headline ResNet-50 pool1",
    "headline 3d-unet pool1",
    "mobile SqueezeNet 1.1 pool1",
    "networks SPP k13 max 13x13 s1 p6 [32,512",
    "networks PoolFormer stage 1",
    "networks 512 to 32 max 2x2 s2 x4 [1,32,",
    "1-D kernels max 65 ",
    "1-D kernels max 1024 ",
    "kernels avg 13x13 ",
    "dilated max 3x3",
    "3-D video stem",
    "3-D video mixed max 3x3x3 s1 p1 [1,192",
    "channels max 3x3 s2 p1 [32,1,",
    "channels max 3x3 s2 p1 [32,3,",
    "dtypes max 3x3 s2 p1 [32,64,112,112] f16 channels-first",
    "dtypes max 3x3 s2 p1 [32,64,112,112] bf16 channels-last",
    "dtypes max 3x3 s2 p1 [32,64,112,112] u8 channels-last",
    "latency max 2x2 s2 [1,16,8,8]",
    "latency max 3x3 s2 p1 [1,64,28,28]",
    "latency GAP [1,64,7,7]",
    "autograd max 3x3",
    "threads max 3x3 s2 p1 [32,64,112,112] f32 channels-first",
};

std::vector<Row> quick_rows(const std::vector<Row>& rows) {
  std::vector<Row> quick;
  for (const char* prefix : kQuickNames) {
    const std::size_t before = quick.size();
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(quick),
                 [&](const Row& row) { return row.name().starts_with(prefix); });
    if (quick.size() == before) throw std::logic_error(fmt::format("no row begins with '{}'", prefix));
  }
  return quick;
}

/// Every kind of row, on shapes of some kilobytes.
std::vector<Row> smoke_rows() {
  std::vector<Row> rows = op_rows({{2, 20, 14, 14}});
  const Sizes shape{1, 16, 9, 9};
  const Op max = max_op(2, square(3, 2, 1));
  for (const Row& row : with_passes(with_layouts({{"latency", "", max, shape}}), {kForward, kAutograd})) {
    rows.push_back(row);
    rows.back().data = Data::kCache;
  }
  rows.push_back({"dtypes", "", max_op(2, square(2, 2)), {1, 16, 14, 14}, kChannelsLast});
  rows.back().dtype = cenote::DType::u8;
  for (const cenote::DType dtype :
       {cenote::DType::f16, cenote::DType::bf16, cenote::DType::u8, cenote::DType::f64}) {
    rows.push_back({"dtypes", "", max, shape});
    rows.back().dtype = dtype;
  }
  Op chain = max_op(2, square(2, 2));
  chain.repeat = 3;
  rows.push_back({"networks", "chain", chain, {1, 3, 16, 16}});
  rows.push_back({"1-D", "", avg_op(1, square(9, 1, 4)), {2, 3, 50}});
  rows.push_back({"3-D", "", max_op(3, square(2, 2)), {1, 17, 6, 6, 6}});
  rows.push_back({"threads", "", max, {2, 20, 14, 14}});
  rows.back().threads = 1;
  return rows;
}

}  // namespace

std::string Row::name() const {
  std::string text = group;
  if (!label.empty()) text += " " + label;
  text += " " + op.title;
  if (op.repeat > 1) text += fmt::format(" x{}", op.repeat);
  text += fmt::format(" [{}] {} {} {}", fmt::join(shape, ","), cenote::name_of(dtype), layout, pass);
  if (threads > 0) text += fmt::format(" t{}", threads);
  if (data == Data::kCache) text += " cached";
  return text;
}

Op max_op(int rank, const Window& window) { return window_op("max", rank, window); }

Op avg_op(int rank, const Window& window) {
  Op op = window_op("avg", rank, window);
  op.arguments.count_include_pad = false;
  return op;
}

Window square(std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  return {{kernel}, {stride}, {padding}};
}

std::vector<Row> with_layouts(const std::vector<Row>& rows) {
  std::vector<Row> both;
  for (const Row& row : rows) {
    for (const char* layout : {kChannelsFirst, kChannelsLast}) {
      both.push_back(row);
      both.back().layout = layout;
    }
  }
  return both;
}

std::vector<Row> with_passes(const std::vector<Row>& rows, const std::vector<const char*>& passes) {
  std::vector<Row> all;
  for (const Row& row : rows) {
    for (const char* pass : passes) {
      all.push_back(row);
      all.back().pass = pass;
    }
  }
  return all;
}

std::vector<Row> all_rows(Extent extent, int threads) {
  if (extent == Extent::kSmoke) return smoke_rows();
  std::vector<Sizes> shapes{{32, 64, 112, 112}, {1, 64, 112, 112}};
  if (extent == Extent::kFull) shapes.push_back({32, 128, 28, 28});
  std::vector<Row> rows = op_rows(shapes);
  std::vector<Row> others;
  for (const std::vector<Row>& more : {headline_rows(), network_rows(), sweep_rows(threads)})
    others.insert(others.end(), more.begin(), more.end());
  if (extent == Extent::kQuick) others = quick_rows(others);
  rows.insert(rows.end(), others.begin(), others.end());
  return rows;
}

}  // namespace cenote_bench
