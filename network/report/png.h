// One image as PNG bytes.
#pragma once

#include <cstdint>
#include <string>

namespace cenote::network {

/// `pixels` is [channels, height, width] with 1 (grey) or 3 (RGB) channels. Throws Error (kInvalidArgument)
/// for other channel counts, kUnsupported when libpng refuses.
std::string encode_png(const std::uint8_t* pixels, std::int64_t channels, std::int64_t height,
                       std::int64_t width);

}  // namespace cenote::network
