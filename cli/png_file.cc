// PNG through libpng, bytes as they are stored: no gamma, no colour management.
//
// Reading uses libpng's classic interface, because its simplified one converts files that carry a gamma.
// libpng reports errors by longjmp, so the functions that call setjmp own nothing with a destructor.
#include <fmt/format.h>
#include <png.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csetjmp>
#include <cstring>

#include "array_file.h"
#include "cenote/error.h"

namespace cenote::cli {
namespace {

constexpr std::size_t kSignatureBytes = 8;
/// Deflate cannot shrink data by more than this, so a file of n bytes holds no image of 1032 n bytes.
constexpr std::uint64_t kMaxCompression = 1032;
/// An image may have so many bytes, which become four times as many as f32.
constexpr std::uint64_t kMaxImageBytes = std::uint64_t{1} << 28;
/// Room for an image that does not compress, and for the chunks beside it.
constexpr std::uint64_t kMaxFileBytes = 2 * kMaxImageBytes;

[[noreturn]] void fail_png(const std::string& path, std::string_view what) {
  throw Error(ErrorCode::kBadFile, fmt::format("{}: {}", path, what));
}

/// What the callbacks of libpng share with their caller.
struct ReadState {
  std::span<const std::byte> rest;
  std::array<char, 128> message{};
};

extern "C" {

void cenote_png_error(png_structp png, png_const_charp text) {
  auto* state = static_cast<ReadState*>(png_get_error_ptr(png));
  std::strncpy(state->message.data(), text, state->message.size() - 1);
  png_longjmp(png, 1);
}

void cenote_png_warning(png_structp /*png*/, png_const_charp /*text*/) {}

void cenote_png_read(png_structp png, png_bytep out, std::size_t count) {
  auto* state = static_cast<ReadState*>(png_get_io_ptr(png));
  if (count > state->rest.size()) png_error(png, "the file is truncated");
  std::memcpy(out, state->rest.data(), count);
  state->rest = state->rest.subspan(count);
}

}  // extern "C"

/// A PNG being read. The steps return false when libpng failed; the reason is in state.message.
class PngReader {
 public:
  explicit PngReader(std::span<const std::byte> file) {
    state_.rest = file;
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &state_, cenote_png_error, cenote_png_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
    png_set_read_fn(png_, &state_, cenote_png_read);
  }
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  bool read_header() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;  // NOLINT(cert-err52-cpp)
    png_read_info(png_, info_);
    return true;
  }

  /// Asks for 8 bits per channel; then the sizes below are those of the decoded image.
  bool expand() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;  // NOLINT(cert-err52-cpp)
    png_set_expand(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }

  bool read_rows(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;  // NOLINT(cert-err52-cpp)
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }

  int bit_depth() const { return png_get_bit_depth(png_, info_); }
  std::int64_t channels() const { return png_get_channels(png_, info_); }
  std::int64_t height() const { return png_get_image_height(png_, info_); }
  std::int64_t width() const { return png_get_image_width(png_, info_); }
  std::size_t row_bytes() const { return png_get_rowbytes(png_, info_); }
  /// Neither factor exceeds 35 bits: a PNG has sides of up to 31.
  std::uint64_t image_bytes() const { return std::uint64_t{row_bytes()} * png_get_image_height(png_, info_); }
  std::string message() const { return state_.message.data(); }

 private:
  ReadState state_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

/// [H, W, C] bytes in rows.
struct Pixels {
  std::vector<png_byte> bytes;
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;
};

Pixels read_pixels(std::span<const std::byte> file, const std::string& path) {
  PngReader reader(file);
  if (!reader.read_header()) fail_png(path, reader.message());
  if (reader.bit_depth() == 16) fail_png(path, "16-bit PNG is not supported, convert it to 8 bits");
  if (reader.image_bytes() / kMaxCompression > file.size()) {
    fail_png(path, fmt::format("{} x {} pixels cannot be in a file of {} bytes", reader.width(),
                               reader.height(), file.size()));
  }
  if (!reader.expand()) fail_png(path, reader.message());
  if (reader.image_bytes() > kMaxImageBytes) {
    fail_png(path, fmt::format("{} x {} pixels of {} channels are too large, {} bytes are allowed",
                               reader.width(), reader.height(), reader.channels(), kMaxImageBytes));
  }
  Pixels pixels{{}, reader.channels(), reader.height(), reader.width()};
  pixels.bytes.resize(reader.row_bytes() * static_cast<std::size_t>(pixels.height));
  std::vector<png_bytep> rows(static_cast<std::size_t>(pixels.height));
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = pixels.bytes.data() + y * reader.row_bytes();
  if (!reader.read_rows(rows.data())) fail_png(path, reader.message());
  return pixels;
}

png_byte to_byte(double value) {
  // nearbyint rounds half to even; the comparison is false for NaN, which becomes 0.
  return value > 0 ? static_cast<png_byte>(std::nearbyint(std::min(value, 255.0))) : png_byte{0};
}

/// [C, H, W] to rows of [H, W, C].
template <class T>
std::vector<png_byte> interleave(const Tensor& tensor) {
  const std::int64_t channels = tensor.sizes()[0];
  const std::int64_t plane = tensor.sizes()[1] * tensor.sizes()[2];
  const T* source = tensor.data<T>();
  std::vector<png_byte> bytes(static_cast<std::size_t>(channels * plane));
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t i = 0; i < plane; ++i) {
      bytes[static_cast<std::size_t>(i * channels + c)] = to_byte(static_cast<double>(source[c * plane + i]));
    }
  }
  return bytes;
}

}  // namespace

void check_png_start(std::span<const std::byte> start, std::uint64_t file_bytes, const std::string& path) {
  if (start.size() < kSignatureBytes ||
      png_sig_cmp(reinterpret_cast<png_const_bytep>(start.data()), 0, kSignatureBytes) != 0) {
    fail_png(path, "not a PNG file");
  }
  if (file_bytes > kMaxFileBytes) {
    fail_png(path, fmt::format("a PNG of {} bytes is too large, {} are allowed", file_bytes, kMaxFileBytes));
  }
}

Tensor decode_png(std::span<const std::byte> file, const std::string& path) {
  check_png_start(file, file.size(), path);
  const Pixels pixels = read_pixels(file, path);
  Tensor tensor(DType::u8, {pixels.channels, pixels.height, pixels.width});
  const std::int64_t plane = pixels.height * pixels.width;
  for (std::int64_t c = 0; c < pixels.channels; ++c) {
    for (std::int64_t i = 0; i < plane; ++i) {
      tensor.data<std::uint8_t>()[c * plane + i] =
          pixels.bytes[static_cast<std::size_t>(i * pixels.channels + c)];
    }
  }
  return tensor;
}

std::vector<std::byte> encode_png(const Tensor& tensor, const std::string& path) {
  constexpr std::array<png_uint_32, 4> kFormats = {PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB,
                                                   PNG_FORMAT_RGBA};
  constexpr std::int64_t kMaxSide = PNG_USER_WIDTH_MAX;
  const Dims& sizes = tensor.sizes();
  if (sizes.size() != 3 || sizes[0] < 1 || sizes[0] > 4 ||
      *std::min_element(sizes.begin(), sizes.end()) < 1 ||
      *std::max_element(sizes.begin(), sizes.end()) > kMaxSide) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: a PNG holds [C, H, W] with 1 to 4 channels and sides of 1 to {}, got {}",
                            path, kMaxSide, to_string(sizes)));
  }
  const std::vector<png_byte> rows =
      tensor.dtype() == DType::f64 ? interleave<double>(tensor) : interleave<float>(tensor);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.height = static_cast<png_uint_32>(sizes[1]);
  image.width = static_cast<png_uint_32>(sizes[2]);
  image.format = kFormats[static_cast<std::size_t>(sizes[0] - 1)];
  std::vector<std::byte> file(PNG_IMAGE_PNG_SIZE_MAX(image));
  png_alloc_size_t size = file.size();
  if (png_image_write_to_memory(&image, file.data(), &size, 0, rows.data(), 0, nullptr) == 0) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: {}", path, image.message));
  }
  file.resize(size);
  return file;
}

}  // namespace cenote::cli
