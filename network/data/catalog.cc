// One row per data set: names of its classes, folders that its archives unpack to, and what to tell a user
// who does not have it. A folder counts as a place of the data set when its first training file is there;
// every other file that is missing is then an error and not a reason to look elsewhere.
#include "network/data/catalog.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <system_error>

#include "network/data/cifar.h"
#include "network/data/idx.h"
#include "network/error_text.h"

namespace cenote::network {
namespace {

namespace fs = std::filesystem;

struct Entry {
  std::string name;
  std::string first_file;               // tells whether a folder holds the data set
  std::vector<std::string> subfolders;  // where common downloaders put it below a folder
  std::vector<std::string> class_names;
  std::string advice;
};

const std::vector<Entry>& catalog() {
  static const std::vector<Entry> entries = {
      {"fashion-mnist",
       "train-images-idx3-ubyte",
       {"", "FashionMNIST/raw"},
       {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot"},
       "Install it with `apt-get install dataset-fashion-mnist`, or give the folder of its four IDX files "
       "with --data-dir DIR."},
      {"mnist",
       "train-images-idx3-ubyte",
       {"", "MNIST/raw"},
       {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
       "Give the folder of its four IDX files (train-images-idx3-ubyte, train-labels-idx1-ubyte, "
       "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each plain or .gz) with --data-dir DIR."},
      {"cifar10",
       "data_batch_1.bin",
       {"", "cifar-10-batches-bin"},
       {},
       "Unpack the binary version of CIFAR-10 (cifar-10-binary.tar.gz) and give its folder with "
       "--data-dir DIR."},
  };
  return entries;
}

/// The plain or compressed form of an IDX file, with a dash or a dot before "idx", as mirrors differ.
std::optional<fs::path> find_file(const fs::path& folder, const std::string& name) {
  std::string dotted = name;
  if (const auto dash = dotted.find("-idx"); dash != std::string::npos) dotted[dash] = '.';
  for (const std::string& candidate : {name, name + ".gz", dotted, dotted + ".gz"}) {
    std::error_code ignored;
    if (fs::exists(folder / candidate, ignored)) return folder / candidate;
  }
  return std::nullopt;
}

std::optional<fs::path> find_folder(const Entry& entry, const fs::path& place) {
  for (const std::string& subfolder : entry.subfolders) {
    fs::path folder = subfolder.empty() ? place : place / subfolder;
    if (find_file(folder, entry.first_file)) return folder;
  }
  return std::nullopt;
}

std::vector<fs::path> standard_places(const std::string& name) {
  std::vector<fs::path> places = {fs::path("data") / name};
  const char* data_home = std::getenv("XDG_DATA_HOME");
  const char* home = std::getenv("HOME");
  if (data_home != nullptr && *data_home != '\0') {
    places.push_back(fs::path(data_home) / "cenote" / name);
  } else if (home != nullptr && *home != '\0') {
    places.push_back(fs::path(home) / ".local/share/cenote" / name);
  }
  places.push_back(fs::path("/usr/share/datasets") / name);
  return places;
}

/// Beside the program when it is installed, in the source tree when it runs from a build folder.
std::vector<fs::path> subset_places() {
  std::vector<fs::path> places;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) places.push_back(program.parent_path().parent_path() / "share/cenote/fashion-mnist-subset");
  places.push_back(fs::path(CENOTE_INSTALL_DATA_DIR) / "fashion-mnist-subset");
  places.push_back(fs::path(CENOTE_SOURCE_DATA_DIR) / "fashion-mnist-subset");
  return places;
}

struct Location {
  fs::path folder;
  bool subset = false;
};

Location locate(const Entry& entry, const fs::path& data_dir) {
  const std::vector<fs::path> places =
      data_dir.empty() ? standard_places(entry.name) : std::vector<fs::path>{data_dir};
  std::string searched;
  for (const fs::path& place : places) {
    if (const auto folder = find_folder(entry, place)) return {*folder};
    searched += (searched.empty() ? "" : ", ") + place.string();
  }
  if (data_dir.empty() && entry.name == "fashion-mnist") {
    for (const fs::path& place : subset_places()) {
      if (find_file(place, entry.first_file)) return {place, true};
    }
  }
  fail(ErrorCode::kBadFile, "[data] {}: no file {} in {}. {}", entry.name, entry.first_file, searched,
       entry.advice);
}

Images read_idx_split(const Entry& entry, const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> paths;
  for (const char* suffix : {"-images-idx3-ubyte", "-labels-idx1-ubyte"}) {
    const auto path = find_file(folder, prefix + suffix);
    if (!path) {
      fail(ErrorCode::kBadFile, "[data] {}: no file {} in {}. {}", entry.name, prefix + suffix,
           folder.string(), entry.advice);
    }
    paths.push_back(*path);
  }
  return read_idx_images(paths[0], paths[1], static_cast<int>(entry.class_names.size()));
}

void read_cifar(Dataset& dataset, const fs::path& folder) {
  dataset.class_names = read_cifar_names(folder / "batches.meta.txt");
  for (int batch = 1; batch <= 5; ++batch) {
    append_cifar_batch(dataset.train, folder / fmt::format("data_batch_{}.bin", batch));
  }
  append_cifar_batch(dataset.validation, folder / "test_batch.bin");
}

}  // namespace

std::vector<std::string> dataset_names() {
  std::vector<std::string> names;
  for (const Entry& entry : catalog()) names.push_back(entry.name);
  return names;
}

Dataset load_dataset(const std::string& name, const fs::path& data_dir, std::int64_t limit) {
  const auto& entries = catalog();
  const auto entry =
      std::find_if(entries.begin(), entries.end(), [&](const Entry& e) { return e.name == name; });
  if (entry == entries.end()) {
    fail(ErrorCode::kInvalidArgument, "[data] unknown data set '{}'; known are {}", name,
         fmt::join(dataset_names(), ", "));
  }
  const Location location = locate(*entry, data_dir);
  Dataset dataset;
  dataset.name = name;
  dataset.folder = location.folder.string();
  if (name == "cifar10") {
    read_cifar(dataset, location.folder);
  } else {
    dataset.class_names = entry->class_names;
    dataset.train = read_idx_split(*entry, location.folder, "train");
    dataset.validation = read_idx_split(*entry, location.folder, "t10k");
  }
  const Images &train = dataset.train, &validation = dataset.validation;
  if (train.height != validation.height || train.width != validation.width) {
    fail(ErrorCode::kBadFile, "[data] {}: training images are {}x{}, validation images {}x{}", dataset.folder,
         train.height, train.width, validation.height, validation.width);
  }
  if (location.subset) {
    dataset.notice = fmt::format(
        "Note: the full Fashion-MNIST is not installed; using the small subset of {} training and {} "
        "validation images that comes with cenote. {}",
        train.count, validation.count, entry->advice);
  }
  if (limit > 0) {
    truncate(dataset.train, limit);
    truncate(dataset.validation, limit);
  }
  return dataset;
}

}  // namespace cenote::network
