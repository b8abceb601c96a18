// What is compared: one row is an op on a shape in a layout and dtype, one pass of it, with a number of
// threads, on data of memory or of the caches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cenote/registry.h"

namespace cenote_bench {

/// An op as cenote's registry names it.
struct Op {
  std::string title;  // "max 3x3 s2 p1"
  std::string name;   // "max_pool2d"
  cenote::OpArguments arguments = {};
  int repeat = 1;  // the op again on its own output
};

/// Which buffers successive calls work on.
enum class Data : std::uint8_t {
  kMemory,  // changing ones, together larger than the last-level cache
  kCache,   // always the same: what is small enough is found in the cache
};

struct Row {
  std::string group;  // "headline"
  std::string label;  // the layer's name in its network, where it has one
  Op op;
  std::vector<std::int64_t> shape;
  std::string layout = "channels-first";
  std::string pass = "forward";  // or forward+indices, backward, autograd
  cenote::DType dtype = cenote::DType::f32;
  int threads = 0;  // 0: those of the run
  Data data = Data::kMemory;

  /// Tells the row from all others.
  std::string name() const;
};

inline constexpr const char* kForward = "forward";
inline constexpr const char* kForwardIndices = "forward+indices";
inline constexpr const char* kBackward = "backward";
inline constexpr const char* kAutograd = "autograd";  // forward and backward, recorded by autograd
inline constexpr const char* kChannelsFirst = "channels-first";
inline constexpr const char* kChannelsLast = "channels-last";

enum class Extent : std::uint8_t { kSmoke, kQuick, kFull };

/// kSmoke: small shapes, to see that it runs. kQuick: the rows that tell most, some minutes. Smaller numbers
/// of threads than `threads` get rows of their own.
std::vector<Row> all_rows(Extent extent, int threads);

/// Named layers of networks and sweeps over one size; cases.cc joins them.
std::vector<Row> headline_rows();
std::vector<Row> network_rows();
std::vector<Row> sweep_rows(int threads);

// ---- parts of rows ------------------------------------------------------------------------------

struct Window {
  std::vector<std::int64_t> kernel, stride;
  std::vector<std::int64_t> padding = {0};
  bool ceil_mode = false;
  std::int64_t dilation = 1;
};
/// The title says everything: kernel, stride s, padding p, dilation d, ceil.
Op max_op(int rank, const Window& window);
/// Padding does not count in the divisor.
Op avg_op(int rank, const Window& window);
/// The same numbers for all axes.
Window square(std::int64_t kernel, std::int64_t stride, std::int64_t padding = 0);

std::vector<Row> with_layouts(const std::vector<Row>& rows);
std::vector<Row> with_passes(const std::vector<Row>& rows, const std::vector<const char*>& passes);

}  // namespace cenote_bench
