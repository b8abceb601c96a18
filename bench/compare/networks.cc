// Layers of networks: the 33 pooling layers that oneDNN's own benchmark calls set_topologies, and what else
// users pool. Sizes from the networks' papers and from the benchmarks of oneDNN and XNNPACK.
#include <initializer_list>

#include "cases.h"

namespace cenote_bench {

namespace {

using Sizes = std::vector<std::int64_t>;

struct Layer {
  const char* label;
  Op op;
  Sizes shape;
};

void append(std::vector<Row>& rows, const std::vector<Row>& more) {
  rows.insert(rows.end(), more.begin(), more.end());
}

std::vector<Row> rows_of(const char* group, const std::vector<Layer>& layers) {
  std::vector<Row> rows;
  rows.reserve(layers.size());
  for (const Layer& layer : layers) rows.push_back({group, layer.label, layer.op, layer.shape});
  return rows;
}

Op repeated(Op op, int repeat) {
  op.repeat = repeat;
  return op;
}

/// Windows of 3 at stride 2 whose last one may overhang the end.
Window overhanging() {
  Window window = square(3, 2);
  window.ceil_mode = true;
  return window;
}

std::vector<Layer> alexnet_and_googlenet() {
  const Op max_s2 = max_op(2, square(3, 2)), overhang = max_op(2, overhanging());
  const Op max_s1 = max_op(2, square(3, 1, 1)), avg_s1 = avg_op(2, square(3, 1, 1));
  return {{"AlexNet pool1", max_s2, {256, 96, 55, 55}},
          {"AlexNet pool2", max_s2, {256, 256, 27, 27}},
          {"AlexNet pool5", max_s2, {256, 256, 13, 13}},
          {"GoogLeNet v1 pool1", overhang, {96, 64, 114, 114}},
          {"GoogLeNet v1 pool2", max_s2, {96, 192, 57, 57}},
          {"GoogLeNet v1 3a", max_s1, {96, 192, 28, 28}},
          {"GoogLeNet v1 3b", max_s1, {96, 256, 28, 28}},
          {"GoogLeNet v1 pool3", overhang, {96, 480, 28, 28}},
          {"GoogLeNet v1 4a", max_s1, {96, 480, 14, 14}},
          {"GoogLeNet v1 4b", max_s1, {96, 512, 14, 14}},
          {"GoogLeNet v1 4e", max_s1, {96, 528, 14, 14}},
          {"GoogLeNet v1 pool4", overhang, {96, 832, 14, 14}},
          {"GoogLeNet v1 5a", max_s1, {96, 832, 7, 7}},
          {"GoogLeNet v1 pool5", avg_op(2, square(7, 1)), {96, 1024, 7, 7}},
          {"GoogLeNet v3 pool", max_s2, {96, 64, 147, 147}},
          {"GoogLeNet v3 pool1", max_s2, {96, 192, 71, 71}},
          {"GoogLeNet v3 mixed", avg_s1, {96, 192, 35, 35}},
          {"GoogLeNet v3 mixed_1", avg_s1, {96, 256, 35, 35}},
          {"GoogLeNet v3 mixed_2", avg_s1, {96, 288, 35, 35}},
          {"GoogLeNet v3 mixed_3", max_s2, {96, 288, 35, 35}},
          {"GoogLeNet v3 mixed_4", avg_s1, {96, 768, 17, 17}},
          {"GoogLeNet v3 mixed_8", max_s2, {96, 768, 17, 17}},
          {"GoogLeNet v3 mixed_9", avg_s1, {96, 1280, 8, 8}},
          {"GoogLeNet v3 mixed_10", max_s1, {96, 2048, 8, 8}},
          {"GoogLeNet v3 global", avg_op(2, square(8, 1)), {96, 2048, 8, 8}}};
}

std::vector<Layer> resnet_and_volumes() {
  return {{"ResNet-50 pool1", max_op(2, overhanging()), {50, 64, 112, 112}},
          {"ResNet-50 pool5", avg_op(2, square(7, 1)), {50, 2048, 7, 7}},
          {"i3d pool1", max_op(3, {{1, 3, 3}, {2, 2, 2}, {0, 1, 1}}), {1, 64, 16, 112, 112}},
          {"i3d pool2", max_op(3, {{2, 1, 1}, {2, 1, 1}}), {1, 256, 8, 56, 56}},
          {"i3d pool3", max_op(3, {{4, 7, 7}, {1, 1, 1}}), {1, 2048, 4, 7, 7}},
          {"3d-unet pool1", max_op(3, square(2, 2)), {1, 64, 64, 64, 64}},
          {"3d-unet pool2", max_op(3, square(2, 2)), {1, 128, 28, 28, 28}},
          {"3d-unet pool3", max_op(3, square(2, 2)), {1, 256, 12, 12, 12}}};
}

/// The images of XNNPACK's benchmarks, one at a time.
std::vector<Row> mobile_rows() {
  const Op padded = max_op(2, square(3, 2, 1)), plain = max_op(2, square(3, 2));
  std::vector<Row> rows = rows_of("mobile", {{"ShuffleNet pool1", padded, {1, 24, 112, 112}},
                                             {"SqueezeNet 1.0 pool1", plain, {1, 96, 111, 111}},
                                             {"SqueezeNet 1.0 pool4", plain, {1, 256, 27, 27}},
                                             {"SqueezeNet 1.0 pool8", plain, {1, 512, 13, 13}},
                                             {"SqueezeNet 1.1 pool1", plain, {1, 64, 111, 111}},
                                             {"SqueezeNet 1.1 pool3", plain, {1, 128, 55, 55}},
                                             {"SqueezeNet 1.1 pool5", plain, {1, 256, 27, 27}}});
  const std::size_t count = rows.size();
  for (std::size_t i = 0; i < count; ++i) {
    rows.push_back(rows[i]);
    rows.back().dtype = cenote::DType::u8;
  }
  append(rows, rows_of("mobile", {{"SqueezeNet global", avg_op(2, square(13, 1)), {1, 1000, 13, 13}},
                                  {"global", avg_op(2, square(7, 1)), {1, 1000, 7, 7}}}));
  const auto shuffle = [&](std::int64_t size, std::initializer_list<std::int64_t> channels) {
    for (const std::int64_t c : channels)
      rows.push_back({"mobile", "ShuffleNet stage", avg_op(2, square(3, 2, 1)), {1, c, size, size}});
  };
  shuffle(56, {24});
  shuffle(28, {144, 200, 240, 272, 384});
  shuffle(14, {288, 400, 480, 576, 768});
  shuffle(7, {576, 800, 960, 1088, 1536});
  for (Row& row : rows) row.data = Data::kCache;
  return with_layouts(rows);
}

std::vector<Row> classifier_rows() {
  const Op max2 = max_op(2, square(2, 2)), mix = avg_op(2, square(3, 1, 1));
  std::vector<Row> vgg, poolformer;
  for (const std::int64_t n : {1, 32}) {
    append(vgg, rows_of("networks", {{"VGG pool1", max2, {n, 64, 224, 224}},
                                     {"VGG pool2", max2, {n, 128, 112, 112}},
                                     {"VGG pool3", max2, {n, 256, 56, 56}},
                                     {"VGG pool4", max2, {n, 512, 28, 28}},
                                     {"VGG pool5", max2, {n, 512, 14, 14}}}));
  }
  poolformer = rows_of("networks", {{"PoolFormer stage 1", mix, {32, 64, 56, 56}},
                                    {"PoolFormer stage 2", mix, {32, 128, 28, 28}},
                                    {"PoolFormer stage 3", mix, {32, 320, 14, 14}},
                                    {"PoolFormer stage 4", mix, {32, 512, 7, 7}}});
  append(vgg, poolformer);
  return with_passes(with_layouts(vgg), {kForward, kBackward});
}

std::vector<Row> detector_rows() {
  std::vector<Row> rows;
  for (const std::int64_t n : {1, 32}) {
    for (const Sizes& shape : {Sizes{n, 512, 13, 13}, Sizes{n, 256, 20, 20}}) {
      append(rows, rows_of("networks", {{"SPP k5", max_op(2, square(5, 1, 2)), shape},
                                        {"SPP k9", max_op(2, square(9, 1, 4)), shape},
                                        {"SPP k13", max_op(2, square(13, 1, 6)), shape},
                                        {"SPPF", repeated(max_op(2, square(5, 1, 2)), 3), shape}}));
    }
  }
  return with_layouts(rows);
}

std::vector<Row> segmentation_rows() {
  const Op max2 = max_op(2, square(2, 2));
  std::vector<Row> rows, chains;
  for (const std::int64_t n : {1, 8}) {
    append(rows, rows_of("networks", {{"U-Net pool1", max2, {n, 64, 512, 512}},
                                      {"U-Net pool2", max2, {n, 128, 256, 256}},
                                      {"U-Net pool3", max2, {n, 256, 128, 128}},
                                      {"U-Net pool4", max2, {n, 512, 64, 64}}}));
    append(chains, rows_of("networks", {{"512 to 32", repeated(max2, 4), {n, 32, 512, 512}},
                                        {"512 to 32", repeated(max2, 4), {n, 64, 512, 512}}}));
  }
  append(rows, rows_of("networks", {{"wide pool1", max2, {4, 8, 640, 1024}},
                                    {"wide pool2", max2, {4, 16, 320, 512}},
                                    {"wide pool3", max2, {4, 24, 160, 256}},
                                    {"wide pool4", max2, {4, 32, 80, 128}},
                                    {"wide pool5", max2, {4, 40, 40, 64}},
                                    {"wide pool6", max2, {4, 48, 20, 32}}}));
  std::vector<Row> all = with_passes(with_layouts(rows), {kForward, kBackward});
  append(all, with_passes(with_layouts(chains), {kForward, kAutograd}));
  return all;
}

std::vector<Row> volume_rows() {
  const Op halve = max_op(3, square(2, 2));
  std::vector<Row> rows = with_passes(with_layouts(rows_of("3-D", {{"cube", halve, {1, 32, 128, 128, 128}},
                                                                   {"cube", halve, {4, 64, 64, 64, 64}},
                                                                   {"cube", halve, {4, 128, 32, 32, 32}},
                                                                   {"cube", halve, {4, 256, 16, 16, 16}},
                                                                   {"cube", halve, {4, 512, 8, 8, 8}}})),
                                      {kForward, kBackward});
  const Op stem = max_op(3, {{1, 3, 3}, {1, 2, 2}}), same = max_op(3, square(3, 1, 1));
  append(rows,
         with_layouts(rows_of("3-D", {{"video stem", stem, {1, 64, 40, 112, 112}},
                                      {"video mixed", same, {1, 192, 40, 28, 28}},
                                      {"video mixed", same, {1, 256, 40, 28, 28}},
                                      {"video pool", max_op(3, square(3, 2)), {1, 480, 40, 28, 28}},
                                      {"medical", halve, {1, 1, 256, 256, 256}},
                                      {"medical", max_op(3, square(3, 2, 1)), {1, 16, 160, 192, 160}},
                                      {"medical", avg_op(3, square(2, 2)), {1, 32, 96, 96, 96}},
                                      {"depth", avg_op(3, {{1, 28, 28}, {1, 1, 1}}), {32, 72, 4, 28, 28}}})));
  return rows;
}

}  // namespace

std::vector<Row> headline_rows() {
  std::vector<Row> rows = rows_of("headline", alexnet_and_googlenet());
  append(rows, rows_of("headline", resnet_and_volumes()));
  return with_passes(with_layouts(rows), {kForward, kBackward, kAutograd});
}

std::vector<Row> network_rows() {
  std::vector<Row> rows = mobile_rows();
  append(rows, classifier_rows());
  append(rows, detector_rows());
  append(rows, segmentation_rows());
  append(rows, volume_rows());
  return rows;
}

}  // namespace cenote_bench
