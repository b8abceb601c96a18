// Tensors in files: NumPy .npy, and 8-bit PNG seen as [C, H, W] with values 0..255.
// The end of the name chooses the format. Files are hostile: every size is checked before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cenote/tensor.h"

namespace cenote::cli {

/// Reads a tensor; an image becomes f32. Throws Error kBadFile with the path and what is
/// wrong, kInvalidArgument for an unknown ending, kIo when the file cannot be read.
Tensor read_array(const std::string& path);
/// Reads a .npy of i64 indices. Throws the same errors.
Tensor read_indices(const std::string& path);

/// The bytes of the file that `path` names, ready to be written. Throws Error kInvalidArgument when the
/// format cannot hold the tensor.
std::vector<std::byte> encode_array(const std::string& path, const Tensor& tensor);

/// Replaces `path` in one step, so that nobody sees half a file and a failed write leaves the old one. A
/// symbolic link is followed; a device is written in place. Throws Error kIo.
void write_array_file(const std::string& path, std::span<const std::byte> file);

/// Throws Error kInvalidArgument unless the ending of `path` names a format.
void require_array_path(const std::string& path);

/// How much of a file the checks of its start need to see.
constexpr std::size_t kStartBytes = 66'000;

/// What a .npy is read for, which decides the dtypes that it may have.
enum class NpyContent {
  kValues,   // f32, f64 or u8
  kIndices,  // i64
};

// The formats. Decoders get the whole file and use `path` in messages only; encoders want a dense tensor.

/// Throws Error kBadFile when a file of `file_bytes` bytes that begins with `start` cannot be decoded, so
/// that a foreign or giant file is refused before it is read.
void check_npy_start(std::span<const std::byte> start, std::uint64_t file_bytes, const std::string& path,
                     NpyContent content = NpyContent::kValues);
void check_png_start(std::span<const std::byte> start, std::uint64_t file_bytes, const std::string& path);

/// C or Fortran order, versions 1 to 3.
Tensor decode_npy(std::span<const std::byte> file, const std::string& path,
                  NpyContent content = NpyContent::kValues);
/// f32, f64 or i64.
std::vector<std::byte> encode_npy(const Tensor& tensor);

/// Gray, gray + alpha, RGB or RGBA as u8 [C, H, W]; palettes and depths below 8 are expanded, 16 refused,
/// and so are images of more than 2^28 bytes.
Tensor decode_png(std::span<const std::byte> file, const std::string& path);
/// [C, H, W] with 1 to 4 channels, f32 or f64: rounded half to even and clamped to 0..255, NaN as 0.
std::vector<std::byte> encode_png(const Tensor& tensor, const std::string& path);

}  // namespace cenote::cli
