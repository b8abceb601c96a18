// libpng's simplified interface, writing into memory.
#include "network/report/png.h"

#include <png.h>

#include <vector>

#include "network/error_text.h"

namespace cenote::network {

std::string encode_png(const std::uint8_t* pixels, std::int64_t channels, std::int64_t height,
                       std::int64_t width) {
  if (channels != 1 && channels != 3) {
    fail(ErrorCode::kInvalidArgument, "[png] channels must be 1 or 3, got {}", channels);
  }
  const std::int64_t plane = height * width;
  std::vector<std::uint8_t> interleaved(static_cast<std::size_t>(channels * plane));
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t p = 0; p < plane; ++p) interleaved[p * channels + c] = pixels[c * plane + p];
  }
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  std::string bytes(PNG_IMAGE_PNG_SIZE_MAX(image), '\0');
  png_alloc_size_t size = bytes.size();
  if (png_image_write_to_memory(&image, bytes.data(), &size, 0, interleaved.data(), 0, nullptr) == 0) {
    fail(ErrorCode::kUnsupported, "[png] {}", std::string(image.message));
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace cenote::network
