// The data readers: what they read, and that every damaged file is one clear error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "files.h"
#include "network/data/catalog.h"
#include "network/data/cifar.h"
#include "network/data/idx.h"
#include "support/errors.h"

namespace cenote::network {
namespace {

using testing::ElementsAre;

template <class Call>
void expect_bad_file(const Call& call, std::initializer_list<const char*> fragments,
                     const std::source_location& from = std::source_location::current()) {
  cenote_test::expect_error(call, ErrorCode::kBadFile, fragments, from);
}

class Idx : public testing::Test {
 protected:
  void expect_bad(const std::string& bytes, std::initializer_list<const char*> fragments,
                  const std::source_location& from = std::source_location::current()) {
    write_bytes(folder_ / "file", bytes);
    expect_bad_file([&] { read_idx(folder_ / "file", 3); }, fragments, from);
  }
  void write_pair(const std::string& images, const std::string& labels) {
    write_bytes(folder_ / "images", images);
    write_bytes(folder_ / "labels", labels);
  }
  Images read_pair() { return read_idx_images(folder_ / "images", folder_ / "labels", 10); }

  TemporaryFolder folder_;
};

TEST_F(Idx, ReadsPlainAndCompressedFilesAlike) {
  const std::string bytes = idx_bytes({2, 1, 3}, {1, 2, 3, 4, 5, '\xff'});
  for (const std::string& stored : {bytes, gzip(bytes)}) {
    write_bytes(folder_ / "file", stored);
    const IdxArray array = read_idx(folder_ / "file", 3);
    EXPECT_THAT(array.sizes, ElementsAre(2, 1, 3));
    EXPECT_THAT(array.values, ElementsAre(1, 2, 3, 4, 5, 255));
  }
}

TEST_F(Idx, PairsImagesWithLabels) {
  write_pair(gzip(idx_bytes({2, 1, 2}, "abcd")), idx_bytes({2}, {9, 0}));
  const Images images = read_pair();
  EXPECT_EQ(images.count, 2);
  EXPECT_EQ(images.channels, 1);
  EXPECT_EQ(images.height, 1);
  EXPECT_EQ(images.width, 2);
  EXPECT_EQ(*images.image(1), 'c');
  EXPECT_THAT(images.labels, ElementsAre(9, 0));
}

TEST_F(Idx, RejectsTruncatedFiles) {
  expect_bad("", {"truncated"});
  expect_bad(std::string{0, 0, 8}, {"truncated"});
  expect_bad(idx_bytes({2, 2, 2}, "abcdefg"), {"1 bytes too early"});
  expect_bad(gzip(idx_bytes({2, 2, 2}, "abcdefg")), {"truncated"});
}

TEST_F(Idx, RejectsEveryPrefixOfACompressedFile) {
  const std::string packed = gzip(idx_bytes({1, 4, 4}, "0123456789abcdef"));
  for (std::size_t size = 0; size < packed.size(); ++size) {
    expect_bad(packed.substr(0, size), {"file"});
  }
}

TEST_F(Idx, RejectsForeignFiles) {
  expect_bad("\x89PNG\r\n\x1a\n  and so on", {"not an IDX file"});
  expect_bad(idx_bytes({3}, "abc"), {"not an IDX file"});  // labels instead of images
  std::string floats = idx_bytes({1, 1, 1}, "abcd");
  floats[2] = 0x0D;
  expect_bad(floats, {"not an IDX file"});
}

TEST_F(Idx, RejectsHeadersThatLie) {
  expect_bad(idx_bytes({0, 28, 28}, ""), {"out of range"});
  expect_bad(idx_bytes({1, 1u << 20, 1}, ""), {"out of range"});
  expect_bad(idx_bytes({0xffffffff, 512, 512}, ""), {"out of range"});
  expect_bad(idx_bytes({1, 1, 513}, ""), {"size 513 of dimension 2 is out of range (1 to 512"});
  expect_bad(idx_bytes({1u << 20, 28, 28}, "few"), {"truncated"});
}

TEST_F(Idx, RejectsWhatFollowsTheElements) {
  expect_bad(idx_bytes({1, 1, 1}, "ab"), {"goes on"});
  std::string bomb;
  bomb.resize(50'000'000, 'x');
  expect_bad(gzip(idx_bytes({1, 1, 1}, bomb)), {"goes on"});
}

TEST_F(Idx, RejectsDamagedCompression) {
  const std::string packed = gzip(idx_bytes({1, 4, 4}, "0123456789abcdef"));
  expect_bad(packed.substr(0, 10) + std::string(40, '\xA5'), {"file"});
  std::string wrong_checksum = packed;
  wrong_checksum[packed.size() - 8] ^= 1;
  expect_bad(wrong_checksum, {"damaged"});
}

TEST_F(Idx, RejectsWhatIsNoFile) {
  expect_bad_file([&] { read_idx(folder_.path(), 3); }, {"not a regular file"});
  expect_bad_file([&] { read_idx(folder_ / "none", 3); }, {"No such file"});
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  expect_bad_file([&] { read_idx(folder_ / "pipe", 3); }, {"not a regular file"});
}

TEST_F(Idx, RejectsLabelsThatDoNotFit) {
  write_pair(idx_bytes({2, 1, 1}, "ab"), idx_bytes({2}, {0, 10}));
  expect_bad_file([&] { read_pair(); }, {"label 10 of image 1 is out of range (0 to 9)"});
  write_pair(idx_bytes({2, 1, 1}, "ab"), idx_bytes({3}, {0, 1, 2}));
  expect_bad_file([&] { read_pair(); }, {"3 labels"});
}

class Cifar : public testing::Test {
 protected:
  void write_names(const std::string& text) { write_bytes(folder_ / "batches.meta.txt", text); }
  /// A file of zeros, which takes no room on the disk, with a first record of its own.
  void write_batch(const std::string& name, const std::string& begin, std::uintmax_t size = kCifarFileSize) {
    write_bytes(folder_ / name, begin);
    std::filesystem::resize_file(folder_ / name, size);
  }
  void expect_bad_batch(const char* fragment) {
    Images images;
    expect_bad_file([&] { append_cifar_batch(images, folder_ / "batch"); }, {fragment});
    EXPECT_EQ(images.count, 0);
    EXPECT_TRUE(images.pixels.empty());
  }

  TemporaryFolder folder_;
};

constexpr const char* kNames = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";

TEST_F(Cifar, ReadsTheOfficialLayout) {
  write_names(kNames);
  for (int i = 1; i <= 5; ++i)
    write_batch("data_batch_" + std::to_string(i) + ".bin", {static_cast<char>(i), 7});
  write_batch("test_batch.bin", {9, 8});
  const Dataset dataset = load_dataset("cifar10", folder_.path());
  EXPECT_EQ(dataset.train.count, 50'000);
  EXPECT_EQ(dataset.validation.count, 10'000);
  EXPECT_EQ(dataset.train.channels, 3);
  EXPECT_EQ(dataset.train.height, 32);
  EXPECT_EQ(dataset.train.labels[40'000], 5);
  EXPECT_EQ(*dataset.train.image(40'000), 7);
  EXPECT_EQ(dataset.validation.labels[0], 9);
  EXPECT_EQ(dataset.class_names[9], "truck");
}

TEST_F(Cifar, RejectsOtherSizes) {
  write_batch("batch", "", kCifarFileSize - 1);
  expect_bad_batch("exactly 30730000");
  write_batch("batch", "", kCifarFileSize + 1);
  expect_bad_batch("30730000");
  write_batch("batch", "", 0);
  expect_bad_batch("has 0 bytes");
}

TEST_F(Cifar, RejectsLabel10) {
  write_batch("batch", {10});
  expect_bad_batch("label 10 of record 0 is out of range (0 to 9)");
}

TEST_F(Cifar, RejectsBadNames) {
  const auto expect = [&](const char* fragment) {
    expect_bad_file([&] { read_cifar_names(folder_ / "batches.meta.txt"); }, {fragment});
  };
  expect("No such file");
  write_names("airplane\n");
  expect("1 class names, expected 10");
  write_names("air\x1b[31mplane\n");
  expect("unprintable");
  write_names(std::string(10'000, 'x'));
  expect("more than");
}

TEST(Catalog, NamesTheKnownOnes) {
  cenote_test::expect_invalid([] { load_dataset("imagenet", ""); },
                              {"unknown data set 'imagenet'; known are fashion-mnist, mnist, cifar10"});
}

TEST(Catalog, SaysWhatToDoAboutMissingFiles) {
  TemporaryFolder empty;
  const auto expect = [&](const char* name, const char* advice) {
    expect_bad_file([&] { load_dataset(name, empty.path()); }, {advice});
  };
  expect("fashion-mnist", "apt-get install dataset-fashion-mnist");
  expect("mnist", "--data-dir DIR");
  expect("cifar10", "cifar-10-binary.tar.gz");
}

TEST(Catalog, ReadsTheSubsetInTheSourceTree) {
  const Dataset dataset = load_dataset("fashion-mnist", CENOTE_TEST_DATA "/fashion-mnist-subset");
  EXPECT_EQ(dataset.train.count, 2000);
  EXPECT_EQ(dataset.validation.count, 500);
  EXPECT_EQ(dataset.train.width, 28);
  std::vector<int> counts(10);
  for (const std::uint8_t label : dataset.train.labels) ++counts[label];
  EXPECT_THAT(counts, testing::Each(200));
}

TEST(Catalog, FindsPlainFilesWithADotAndLimits) {
  TemporaryFolder folder;
  std::filesystem::create_directories(folder / "MNIST/raw");
  for (const char* split : {"train", "t10k"}) {
    write_bytes(folder / ("MNIST/raw/" + std::string(split) + "-images.idx3-ubyte"),
                idx_bytes({3, 1, 1}, "abc"));
    write_bytes(folder / ("MNIST/raw/" + std::string(split) + "-labels.idx1-ubyte"),
                idx_bytes({3}, {1, 2, 3}));
  }
  const Dataset all = load_dataset("mnist", folder.path());
  const Dataset two = load_dataset("mnist", folder.path(), 2);
  EXPECT_EQ(all.train.count, 3);
  EXPECT_EQ(two.train.count, 2);
  EXPECT_THAT(two.validation.labels, ElementsAre(1, 2));
  EXPECT_EQ(two.validation.pixels.size(), 2U);
  EXPECT_NE(fingerprint(all), fingerprint(two));
}

TEST(Catalog, RejectsSplitsOfDifferentShapes) {
  TemporaryFolder folder;
  write_bytes(folder / "train-images-idx3-ubyte", idx_bytes({1, 1, 1}, "a"));
  write_bytes(folder / "t10k-images-idx3-ubyte", idx_bytes({1, 1, 2}, "ab"));
  for (const char* split : {"train", "t10k"}) {
    write_bytes(folder / (std::string(split) + "-labels-idx1-ubyte"), idx_bytes({1}, {1}));
  }
  expect_bad_file([&] { load_dataset("mnist", folder.path()); }, {"training images are 1x1"});
}

}  // namespace
}  // namespace cenote::network
