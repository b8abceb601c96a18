// Atomic replacement follows the usual order: write, fsync, rename, fsync of the folder. A reader sees the
// old file or the new one, never a part, also after a crash.
#include "network/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "network/error_text.h"

namespace cenote::network {
namespace {

/// Closes the descriptor and removes the temporary file unless the rename has happened.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& target) : path_(target.string() + ".XXXXXX") {
    descriptor_ = mkostemp(path_.data(), O_CLOEXEC);
    if (descriptor_ < 0) {
      fail(ErrorCode::kIo, "cannot create a file in {}: {}", target.parent_path().string(),
           errno_text(errno));
    }
  }
  ~TemporaryFile() {
    if (descriptor_ >= 0) close(descriptor_);
    if (!renamed_) unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  /// 0, or the errno of the step that failed.
  int write_all(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return written == 0 ? ENOSPC : errno;
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return 0;
  }

  int publish(const std::filesystem::path& target) {
    const mode_t mask = umask(0);
    umask(mask);
    if (fchmod(descriptor_, 0666 & ~mask) != 0 || fsync(descriptor_) != 0) return errno;
    const int closed = close(descriptor_);
    descriptor_ = -1;
    if (closed != 0 || rename(path_.c_str(), target.c_str()) != 0) return errno;
    renamed_ = true;
    return 0;
  }

 private:
  std::string path_;
  int descriptor_ = -1;
  bool renamed_ = false;
};

class OpenFile {
 public:
  explicit OpenFile(int descriptor) : descriptor_(descriptor) {}
  ~OpenFile() { close(descriptor_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

 private:
  int descriptor_;
};

std::string read_and_close(int descriptor, std::uint64_t count, const std::filesystem::path& path) {
  const OpenFile closer(descriptor);
  std::string bytes(count, '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = read(descriptor, bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      fail(ErrorCode::kIo, "cannot read {}: {}", path.string(),
           got < 0 ? errno_text(errno) : "it became shorter while it was read");
    }
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

}  // namespace

void write_file_atomically(const std::filesystem::path& path, const std::vector<std::string_view>& parts) {
  TemporaryFile file(path);
  int error = 0;
  for (std::size_t i = 0; i < parts.size() && error == 0; ++i) error = file.write_all(parts[i]);
  if (error == 0) error = file.publish(path);
  if (error != 0) fail(ErrorCode::kIo, "cannot write {}: {}", path.string(), errno_text(error));
  sync_folder(path.parent_path());
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;  // the data is safe in the file; some file systems cannot sync a folder
  fsync(descriptor);
  close(descriptor);
}

int open_regular_file(const std::filesystem::path& path, std::uint64_t& size) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // no wait on a pipe
  if (descriptor < 0) {
    const ErrorCode code = errno == ENOENT || errno == ENOTDIR ? ErrorCode::kBadFile : ErrorCode::kIo;
    fail(code, "cannot open {}: {}", path.string(), errno_text(errno));
  }
  struct stat status = {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor);
    fail(ErrorCode::kBadFile, "{} is not a regular file", path.string());
  }
  size = static_cast<std::uint64_t>(status.st_size);
  return descriptor;
}

std::string read_file(const std::filesystem::path& path, std::uint64_t limit) {
  std::uint64_t size = 0;
  const int descriptor = open_regular_file(path, size);
  if (size > limit) {
    close(descriptor);
    fail(ErrorCode::kBadFile, "{} has {} bytes, more than the {} allowed", path.string(), size, limit);
  }
  return read_and_close(descriptor, size, path);
}

std::string read_file_start(const std::filesystem::path& path, std::uint64_t count, std::uint64_t& size) {
  const int descriptor = open_regular_file(path, size);
  return read_and_close(descriptor, std::min(count, size), path);
}

void create_folder(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail(ErrorCode::kIo, "cannot create the folder {}: {}", path.string(), error.message());
}

}  // namespace cenote::network
