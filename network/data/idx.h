// Reader of IDX files, the format of MNIST and its relatives: a big-endian header (two zero bytes, the
// element type, the number of dimensions, each dimension as 32 bits), then the elements. Source:
// yann.lecun.com/exdb/mnist. Only unsigned bytes; plain or gzip-compressed, told apart by content.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "network/data/dataset.h"

namespace cenote::network {

/// The sizes and the bytes of one file.
struct IdxArray {
  std::vector<std::int64_t> sizes;
  std::vector<std::uint8_t> values;
};

/// Reads a file that must hold `rank` dimensions of unsigned bytes. Memory grows with what the file really
/// holds and never beyond 2 GiB. Throws Error (kBadFile) for a foreign, truncated, overlong, damaged or
/// empty file, kIo when the system refuses.
IdxArray read_idx(const std::filesystem::path& path, int rank);

/// Images [count, height, width] with their labels, which must be below `classes`. Throws Error like
/// read_idx, and when the counts differ.
Images read_idx_images(const std::filesystem::path& images_path, const std::filesystem::path& labels_path,
                       int classes);

}  // namespace cenote::network
