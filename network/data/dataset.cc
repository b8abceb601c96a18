// Truncation and fingerprint of image sets.
#include "network/data/dataset.h"

#include <zlib.h>

#include <algorithm>
#include <array>

namespace cenote::network {

void truncate(Images& images, std::int64_t count) {
  images.count = std::min(images.count, count);
  images.pixels.resize(static_cast<std::size_t>(images.count * images.image_size()));
  images.labels.resize(static_cast<std::size_t>(images.count));
}

std::uint32_t fingerprint(const Dataset& dataset) {
  uLong crc = crc32_z(0, nullptr, 0);
  for (const Images* images : {&dataset.train, &dataset.validation}) {
    std::array<std::uint8_t, 32> shape{};
    std::size_t at = 0;
    for (const std::int64_t size : {images->count, images->channels, images->height, images->width}) {
      for (int shift = 0; shift < 64; shift += 8) shape[at++] = static_cast<std::uint8_t>(size >> shift);
    }
    crc = crc32_z(crc, shape.data(), shape.size());
    crc = crc32_z(crc, images->pixels.data(), images->pixels.size());
    crc = crc32_z(crc, images->labels.data(), images->labels.size());
  }
  return static_cast<std::uint32_t>(crc);
}

}  // namespace cenote::network
