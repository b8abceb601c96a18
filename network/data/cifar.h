// Reader of the official binary version of CIFAR-10: files of 10,000 records of 3,073 bytes, one label and
// then 32x32 pixels in each of three planes, red, green, blue. Source: www.cs.toronto.edu/~kriz/cifar.html.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "network/data/dataset.h"

namespace cenote::network {

constexpr std::int64_t kCifarFileSize = 30'730'000;

/// The ten names in `path`, one per line. Throws Error (kBadFile).
std::vector<std::string> read_cifar_names(const std::filesystem::path& path);

/// Appends the images of one file. Throws Error (kBadFile) when it has not exactly kCifarFileSize bytes or
/// a label is not below 10; `images` is then unchanged.
void append_cifar_batch(Images& images, const std::filesystem::path& path);

}  // namespace cenote::network
