// Labelled images in memory, as bytes: what the readers produce and the training loop reads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cenote::network {

/// `count` images of [channels, height, width], one byte per value, and one label per image.
struct Images {
  std::int64_t count = 0;
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::vector<std::uint8_t> pixels;  // [count, channels, height, width]
  std::vector<std::uint8_t> labels;  // [count]

  std::int64_t image_size() const { return channels * height * width; }
  const std::uint8_t* image(std::int64_t index) const { return pixels.data() + index * image_size(); }
};

/// A data set: training and validation split of one image shape, labels below class_names.size().
struct Dataset {
  std::string name;
  std::string folder;  // where the files were
  std::string notice;  // what the user should know about the choice of files; empty: nothing
  std::vector<std::string> class_names;
  Images train;
  Images validation;
};

/// Keeps the first `count` images, all if there are fewer.
void truncate(Images& images, std::int64_t count);

/// CRC-32 over shapes, pixels and labels of both splits: tells whether two runs saw the same data.
std::uint32_t fingerprint(const Dataset& dataset);

}  // namespace cenote::network
