// Files as the network tools need them: replaced atomically when written, bounded when read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace cenote::network {

/// Replaces `path` with `parts`, one after the other: temporary file in the same folder, fsync, rename, fsync
/// of the folder. Whatever fails, the old file is untouched and no temporary file stays. Throws Error (kIo).
void write_file_atomically(const std::filesystem::path& path, const std::vector<std::string_view>& parts);

/// The whole file. Throws Error: kBadFile when it is missing, no regular file or larger than `limit`
/// bytes, kIo when reading fails.
std::string read_file(const std::filesystem::path& path, std::uint64_t limit);

/// The first `count` bytes, or all when there are fewer; `size` gets the length of the whole file. Throws
/// Error like read_file.
std::string read_file_start(const std::filesystem::path& path, std::uint64_t count, std::uint64_t& size);

/// Opens a regular file for reading and returns its descriptor, which the caller closes; `size` gets its
/// length. Throws Error like read_file.
int open_regular_file(const std::filesystem::path& path, std::uint64_t& size);

/// Creates the folder and its parents. Throws Error (kIo) with the reason.
void create_folder(const std::filesystem::path& path);

/// Makes renames in `folder` survive a power cut, where the file system can do that.
void sync_folder(const std::filesystem::path& folder);

}  // namespace cenote::network
