// CIFAR-10 in its binary version: labels and planes are taken apart record by record.
#include "network/data/cifar.h"

#include <algorithm>

#include "network/error_text.h"
#include "network/io/file.h"

namespace cenote::network {
namespace {

constexpr std::size_t kClasses = 10;
constexpr std::size_t kImageSize = std::size_t{3} * 32 * 32;
constexpr std::size_t kRecordSize = 1 + kImageSize;
constexpr std::size_t kRecords = 10'000;
constexpr std::uint64_t kMaxNamesSize = 4096;

static_assert(kRecords * kRecordSize == kCifarFileSize);

bool is_printable(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

}  // namespace

std::vector<std::string> read_cifar_names(const std::filesystem::path& path) {
  const std::string text = read_file(path, kMaxNamesSize);
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string name = text.substr(begin, end - begin);
    if (!name.empty() && name.back() == '\r') name.pop_back();
    if (!is_printable(name))
      fail(ErrorCode::kBadFile, "{}: name {} has an unprintable byte", path.string(), names.size());
    if (!name.empty()) names.push_back(std::move(name));
    begin = end + 1;
  }
  if (names.size() != kClasses) {
    fail(ErrorCode::kBadFile, "{} has {} class names, expected {}", path.string(), names.size(), kClasses);
  }
  return names;
}

void append_cifar_batch(Images& images, const std::filesystem::path& path) {
  const std::string bytes = read_file(path, kCifarFileSize);
  if (bytes.size() != static_cast<std::size_t>(kCifarFileSize)) {
    fail(ErrorCode::kBadFile, "{} has {} bytes, a CIFAR-10 file has exactly {}", path.string(), bytes.size(),
         kCifarFileSize);
  }
  for (std::size_t record = 0; record < kRecords; ++record) {
    const auto label = static_cast<std::uint8_t>(bytes[record * kRecordSize]);
    if (label >= kClasses) {
      fail(ErrorCode::kBadFile, "{}: label {} of record {} is out of range (0 to {})", path.string(), label,
           record, kClasses - 1);
    }
  }
  images.channels = 3;
  images.height = images.width = 32;
  images.count += kRecords;
  images.pixels.reserve(images.pixels.size() + kRecords * kImageSize);
  for (std::size_t record = 0; record < kRecords; ++record) {
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(record * kRecordSize);
    images.labels.push_back(static_cast<std::uint8_t>(*begin));
    images.pixels.insert(images.pixels.end(), begin + 1, begin + kRecordSize);
  }
}

}  // namespace cenote::network
