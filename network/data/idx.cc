// zlib reads both plain and compressed files. The header bounds what is decompressed, so a compressed bomb
// costs no more than an honest file, and a lying header costs no more than the bytes that are there.
#include "network/data/idx.h"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>

#include "network/error_text.h"
#include "network/io/file.h"

namespace cenote::network {
namespace {

constexpr std::int64_t kMaxBytes = std::int64_t{1} << 31;
constexpr std::int64_t kMaxSide = 512;
constexpr std::size_t kChunk = std::size_t{1} << 22;

class GzipReader {
 public:
  explicit GzipReader(const std::filesystem::path& path) : name_(path.string()) {
    std::uint64_t size = 0;
    const int descriptor = open_regular_file(path, size);
    file_ = gzdopen(descriptor, "rb");
    if (file_ == nullptr) {
      close(descriptor);
      fail(ErrorCode::kIo, "cannot read {}: zlib is out of memory", name_);
    }
  }
  ~GzipReader() { gzclose_r(file_); }
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  void read(std::uint8_t* to, std::size_t count) {
    const std::size_t got = read_some(to, count);
    if (got < count)
      fail(ErrorCode::kBadFile, "{} is truncated: it ends {} bytes too early", name_, count - got);
  }

  /// Also makes zlib check the checksum at the end of a compressed file.
  void require_end() {
    std::uint8_t extra = 0;
    if (read_some(&extra, 1) != 0) {
      fail(ErrorCode::kBadFile, "{} goes on after the elements that its header announces", name_);
    }
  }

 private:
  std::size_t read_some(std::uint8_t* to, std::size_t count) {
    const int got = gzread(file_, to, static_cast<unsigned>(count));
    int code = Z_OK;
    const char* text = gzerror(file_, &code);
    if (code == Z_ERRNO) fail(ErrorCode::kIo, "cannot read {}: {}", name_, text);
    if (code == Z_BUF_ERROR)
      fail(ErrorCode::kBadFile, "{} is truncated: its compressed stream has no end", name_);
    if (got < 0 || code != Z_OK) fail(ErrorCode::kBadFile, "{} is damaged: {}", name_, text);
    return static_cast<std::size_t>(got);
  }

  std::string name_;
  gzFile file_ = nullptr;
};

std::vector<std::int64_t> read_header(GzipReader& reader, const std::string& name, int rank) {
  std::array<std::uint8_t, 4> magic{};
  reader.read(magic.data(), magic.size());
  const std::array<std::uint8_t, 4> expected = {0, 0, 8, static_cast<std::uint8_t>(rank)};
  if (magic != expected) {
    fail(ErrorCode::kBadFile,
         "{} is not an IDX file of unsigned bytes with {} dimensions: it starts with {:02x}, not {:02x}",
         name, rank, fmt::join(magic, " "), fmt::join(expected, " "));
  }
  std::vector<std::int64_t> sizes;
  std::int64_t total = 1;
  for (int axis = 0; axis < rank; ++axis) {
    std::array<std::uint8_t, 4> bytes{};
    reader.read(bytes.data(), bytes.size());
    std::int64_t size = 0;
    for (const std::uint8_t byte : bytes) size = size * 256 + byte;
    const std::int64_t limit = axis == 0 ? kMaxBytes : kMaxSide;
    if (size < 1 || size > limit || total > kMaxBytes / size) {
      fail(ErrorCode::kBadFile, "{}: size {} of dimension {} is out of range (1 to {}, {} bytes in all)",
           name, size, axis, limit, kMaxBytes);
    }
    total *= size;
    sizes.push_back(size);
  }
  return sizes;
}

}  // namespace

IdxArray read_idx(const std::filesystem::path& path, int rank) {
  GzipReader reader(path);
  IdxArray array;
  array.sizes = read_header(reader, path.string(), rank);
  std::size_t left = 1;
  for (const std::int64_t size : array.sizes) left *= static_cast<std::size_t>(size);
  while (left > 0) {
    const std::size_t chunk = std::min(left, kChunk);
    const std::size_t begin = array.values.size();
    array.values.resize(begin + chunk);
    reader.read(array.values.data() + begin, chunk);
    left -= chunk;
  }
  reader.require_end();
  return array;
}

Images read_idx_images(const std::filesystem::path& images_path, const std::filesystem::path& labels_path,
                       int classes) {
  IdxArray pixels = read_idx(images_path, 3);
  IdxArray labels = read_idx(labels_path, 1);
  if (pixels.sizes[0] != labels.sizes[0]) {
    fail(ErrorCode::kBadFile, "{} has {} images, but {} has {} labels", images_path.string(), pixels.sizes[0],
         labels_path.string(), labels.sizes[0]);
  }
  const auto bad = std::find_if(labels.values.begin(), labels.values.end(),
                                [classes](std::uint8_t label) { return label >= classes; });
  if (bad != labels.values.end()) {
    fail(ErrorCode::kBadFile, "{}: label {} of image {} is out of range (0 to {})", labels_path.string(),
         *bad, bad - labels.values.begin(), classes - 1);
  }
  return {pixels.sizes[0],         1, pixels.sizes[1], pixels.sizes[2], std::move(pixels.values),
          std::move(labels.values)};
}

}  // namespace cenote::network
