// What a library that is compared must be able to do. Each is a plug-in, a shared library of its own, so that
// two versions of one library can be in the process; it defines cenote_bench_peer(). No plug-in knows torch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/compare/measure.h"
#include "cenote/tensor.h"

namespace cenote_bench {

enum class PoolKind : std::uint8_t { kMax, kAverage };  // padding does not count
enum class PeerLayout : std::uint8_t { kPlainFirst, kPlainLast, kOwn };

/// One pooling, as any library describes it. The vectors have one entry per spatial axis.
struct Problem {
  PoolKind kind = PoolKind::kMax;
  cenote::DType dtype = cenote::DType::f32;
  bool backward = false;
  PeerLayout layout = PeerLayout::kPlainFirst;
  int threads = 1;
  std::int64_t n = 0, c = 0;
  std::vector<std::int64_t> x, y, kernel, stride, padding, padding_end, dilation;
};

/// Dense tensors in the layout of the problem; channels-first where the peer has its own. The forward reads x
/// and writes y, the backward reads x (to record what it needs, once) and grad_y and writes grad_x.
struct PeerBuffers {
  const void* x = nullptr;
  void* y = nullptr;
  const void* grad_y = nullptr;
  void* grad_x = nullptr;
};

/// The library cannot do this problem; the text says why.
class Unsupported : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A problem, ready to run.
class PreparedPool {
 public:
  PreparedPool() = default;
  PreparedPool(const PreparedPool&) = delete;
  PreparedPool& operator=(const PreparedPool&) = delete;
  virtual ~PreparedPool() = default;

  /// One more set of buffers, which outlive this.
  virtual void bind(const PeerBuffers& buffers) = 0;
  virtual std::vector<double> turn(const Turn& turn) = 0;
  /// Runs on the first set and puts the result into its y or grad_x.
  virtual void run_and_fetch() = 0;
  /// Bytes of the data that this holds beside the buffers: copies in its own layout.
  virtual std::int64_t data_bytes() const { return 0; }
};

class Peer {
 public:
  Peer() = default;
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  virtual ~Peer() = default;

  virtual std::string name() const = 0;     // "oneDNN 2.6"
  virtual std::string version() const = 0;  // "2.6.3, OpenMP"
  virtual std::string pool() const = 0;     // as Contender::pool
  /// Of the child process that does the work; 0 where it is this one.
  virtual int process() const { return 0; }
  virtual std::vector<PeerLayout> layouts() const = 0;
  /// Throws Unsupported.
  virtual std::unique_ptr<PreparedPool> prepare(const Problem& problem) = 0;
};

}  // namespace cenote_bench

/// Defined by each plug-in. Throws std::exception when the library does not work here.
extern "C" cenote_bench::Peer* cenote_bench_peer();
