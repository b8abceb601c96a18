// The child times its own calls. x of the first set comes to it through shared memory, and y comes back that
// way; the other sets are copies that it makes.
#include "bench/compare/peers/python_peer.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <system_error>

#include "bench/compare/child.h"

namespace cenote_bench {

namespace {

using nlohmann::json;

/// Memory that another process finds by its path.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t bytes)
      : bytes_(bytes), file_(memfd_create("cenote_compare", MFD_CLOEXEC)) {
    if (file_ < 0 || ftruncate(file_, static_cast<off_t>(bytes)) != 0) fail();
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (data_ == MAP_FAILED) fail();
  }
  ~SharedMemory() {
    munmap(data_, bytes_);
    close(file_);
  }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  char* data() const { return static_cast<char*>(data_); }
  std::string path() const { return fmt::format("/proc/{}/fd/{}", getpid(), file_); }

 private:
  [[noreturn]] static void fail() {
    throw std::system_error(errno, std::generic_category(), "shared memory");
  }

  std::size_t bytes_;
  int file_;
  void* data_ = nullptr;
};

std::size_t bytes_of(const Problem& problem, const std::vector<std::int64_t>& sizes) {
  const std::int64_t elements =
      std::accumulate(sizes.begin(), sizes.end(), problem.n * problem.c, std::multiplies<>());
  return static_cast<std::size_t>(elements) * cenote::size_of(problem.dtype);
}

class PythonPool final : public PreparedPool {
 public:
  PythonPool(std::shared_ptr<Child> child, const Problem& problem)
      : child_(std::move(child)),
        x_bytes_(bytes_of(problem, problem.x)),
        y_bytes_(bytes_of(problem, problem.y)),
        memory_(x_bytes_ + y_bytes_) {
    ask({{"do", "prepare"},
         {"kind", problem.kind == PoolKind::kMax ? "max" : "avg"},
         {"dtype", cenote::name_of(problem.dtype)},
         {"channels_last", problem.layout == PeerLayout::kPlainLast},
         {"threads", problem.threads},
         {"n", problem.n},
         {"c", problem.c},
         {"x", problem.x},
         {"y", problem.y},
         {"kernel", problem.kernel},
         {"stride", problem.stride},
         {"padding", problem.padding},
         {"padding_end", problem.padding_end},
         {"dilation", problem.dilation},
         {"memory", memory_.path()}});
  }

  void bind(const PeerBuffers& buffers) override {
    if (y_ == nullptr) {
      y_ = buffers.y;
      std::memcpy(memory_.data(), buffers.x, x_bytes_);
    }
    ask({{"do", "bind"}});
  }

  std::vector<double> turn(const Turn& turn) override {
    const json answer =
        ask({{"do", "turn"}, {"number", turn.number}, {"batch", turn.batch}, {"seconds", turn.seconds}});
    return answer.at("samples").get<std::vector<double>>();
  }

  void run_and_fetch() override {
    ask({{"do", "fetch"}});
    std::memcpy(y_, memory_.data() + x_bytes_, y_bytes_);
  }

 private:
  json ask(const json& question) {
    json answer = child_->ask(question);
    if (answer.contains("error")) throw Unsupported(answer.at("error").get<std::string>());
    return answer;
  }

  std::shared_ptr<Child> child_;
  std::size_t x_bytes_, y_bytes_;
  SharedMemory memory_;
  void* y_ = nullptr;
};

class PythonPeer final : public Peer {
 public:
  PythonPeer(std::string name, const std::string& driver, std::vector<PeerLayout> layouts)
      : name_(std::move(name)),
        layouts_(std::move(layouts)),
        child_(std::make_shared<Child>(std::vector<std::string>{
            CENOTE_BENCH_PYTHON, fmt::format("{}/{}", CENOTE_BENCH_DRIVERS, driver)})) {
    const json hello = child_->read();
    if (hello.contains("error")) throw std::runtime_error(hello.at("error").get<std::string>());
    version_ = hello.at("version").get<std::string>();
  }

  std::string name() const override { return name_; }
  std::string version() const override { return version_; }
  std::string pool() const override { return name_; }
  int process() const override { return child_->id(); }
  std::vector<PeerLayout> layouts() const override { return layouts_; }
  std::unique_ptr<PreparedPool> prepare(const Problem& problem) override {
    if (problem.backward) throw Unsupported(name_ + " is compared forward only");
    return std::make_unique<PythonPool>(child_, problem);
  }

 private:
  std::string name_;
  std::vector<PeerLayout> layouts_;
  std::shared_ptr<Child> child_;
  std::string version_;
};

}  // namespace

std::unique_ptr<Peer> make_python_peer(const std::string& name, const std::string& driver,
                                       const std::vector<PeerLayout>& layouts) {
  return std::make_unique<PythonPeer>(name, driver, layouts);
}

}  // namespace cenote_bench
