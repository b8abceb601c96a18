// Chooses the format by the end of the name and turns 8-bit data into f32.
#include "array_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string_view>

#include "cenote/error.h"
#include "network/error_text.h"
#include "network/io/file.h"

namespace cenote::cli {
namespace {

enum class Format { kNpy, kPng };

Format format_of(const std::string& path) {
  if (path.ends_with(".npy")) return Format::kNpy;
  if (path.ends_with(".png")) return Format::kPng;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("{}: the name must end in .npy or .png", path));
}

Tensor to_f32(const Tensor& bytes) {
  // Dense in some order, so the storage converts front to back and the strides stay.
  Tensor result(DType::f32, bytes.sizes(), bytes.strides());
  std::copy_n(bytes.data<std::uint8_t>(), bytes.size(), result.data<float>());
  return result;
}

void check_start(const std::string& path, Format format) {
  std::uint64_t file_bytes = 0;
  const std::string text = network::read_file_start(path, kStartBytes, file_bytes);
  const std::span<const std::byte> start = std::as_bytes(std::span(text));
  if (format == Format::kNpy) check_npy_start(start, file_bytes, path);
  if (format == Format::kPng) check_png_start(start, file_bytes, path);
}

}  // namespace

void require_array_path(const std::string& path) { format_of(path); }

Tensor read_array(const std::string& path) {
  const Format format = format_of(path);
  check_start(path, format);
  const std::string text = network::read_file(path, std::numeric_limits<std::int64_t>::max());
  const std::span<const std::byte> file = std::as_bytes(std::span(text));
  return format == Format::kNpy ? decode_npy(file, path) : to_f32(decode_png(file, path));
}

Tensor read_indices(const std::string& path) {
  std::uint64_t file_bytes = 0;
  const std::string start = network::read_file_start(path, kStartBytes, file_bytes);
  check_npy_start(std::as_bytes(std::span(start)), file_bytes, path, NpyContent::kIndices);
  const std::string text = network::read_file(path, std::numeric_limits<std::int64_t>::max());
  return decode_npy(std::as_bytes(std::span(text)), path, NpyContent::kIndices);
}

std::vector<std::byte> encode_array(const std::string& path, const Tensor& tensor) {
  return format_of(path) == Format::kNpy ? encode_npy(tensor) : encode_png(tensor, path);
}

void write_array_file(const std::string& path, std::span<const std::byte> file) {
  namespace fs = std::filesystem;
  std::error_code missing;
  const fs::path resolved = fs::canonical(path, missing);
  const fs::path target = missing ? fs::path(path) : resolved;
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  if (missing || fs::is_regular_file(target)) {
    network::write_file_atomically(target, {bytes});
    return;
  }
  errno = 0;
  std::ofstream device(target, std::ios::binary);
  device.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  device.close();
  if (!device) {
    throw Error(ErrorCode::kIo, fmt::format("cannot write {}: {}", path, network::errno_text(errno)));
  }
}

}  // namespace cenote::cli
