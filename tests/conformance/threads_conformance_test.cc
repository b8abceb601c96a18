// The number of threads and the way a pool splits the work change no bit of a result. Tensors here are
// large enough to be worth splitting.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "cenote/runtime.h"
#include "conformance/replay.h"

namespace cenote_test {
namespace {

std::atomic<int> pool_calls{0};

/// Uneven ranges, from the last to the first, on two threads.
void uneven_parallel_for(std::int64_t begin, std::int64_t end, std::int64_t grain, cenote::ParallelBody body,
                         void* context) {
  ++pool_calls;
  EXPECT_LT(begin, end);
  EXPECT_GE(grain, 1);
  const std::int64_t cut = begin + (end - begin) * 2 / 3;
  std::thread other([&] {
    if (cut < end) body(context, cut, end);
  });
  const std::int64_t second_cut = begin + (cut - begin) / 5;
  if (second_cut < cut) body(context, second_cut, cut);
  if (begin < second_cut) body(context, begin, second_cut);
  other.join();
}

Case large_case(const cenote::OpInfo& op, LayoutKind layout, cenote::DType dtype) {
  Case one;
  one.op = &op;
  one.layout = layout;
  one.dtype = dtype;
  one.fill = Fill::kWithNan;
  one.seed = 5;
  constexpr std::int64_t kSizes[3][3] = {{7'001, 0, 0}, {89, 79, 0}, {21, 19, 17}};
  one.sizes = {1, 19};  // one image: the channels alone do not fill the threads evenly
  for (int axis = 0; axis < op.spatial_rank; ++axis) one.sizes.push_back(kSizes[op.spatial_rank - 1][axis]);
  if (op.parameters & cenote::kTakesWindow) {
    one.arguments.kernel = 3;
    one.arguments.stride = 2;
    one.arguments.padding = 1;
  }
  if (op.parameters & cenote::kTakesOutputSize) one.arguments.output_size = 7;
  if (op.parameters & cenote::kTakesNormType) one.arguments.norm_type = 2.5;
  if (op.parameters & cenote::kTakesGem) {
    one.arguments.p.clear();
    for (int channel = 0; channel < 19; ++channel) one.arguments.p.push_back(1 + channel / 4.0);
  }
  if (op.parameters & cenote::kTakesSamples) {
    one.arguments.kernel = 2;
    one.arguments.output_size = 11;
  }
  if (op.parameters & cenote::kTakesUnpool) {
    one.arguments.kernel = 3;
    one.arguments.stride = 2;
  }
  return one;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

void expect_same_bits(const Outcome& got, const Outcome& expected) {
  EXPECT_TRUE(same_bits(got.y, expected.y));
  EXPECT_TRUE(same_bits(got.grad_x, expected.grad_x));
  EXPECT_TRUE(same_bits(got.indices, expected.indices));
  EXPECT_TRUE(same_bits(got.taps, expected.taps));
  EXPECT_TRUE(same_bits(got.y_with_indices, expected.y_with_indices));
  EXPECT_TRUE(same_bits(got.y_with_taps, expected.y_with_taps));
  EXPECT_TRUE(same_bits(got.grad_x_from_taps, expected.grad_x_from_taps));
  EXPECT_TRUE(got.guards_intact);
}

void check_splits(const Case& one) {
  const int before = cenote::num_threads();
  cenote::set_num_threads(1);
  const Outcome alone = replay(one);
  for (const int threads : {2, 3}) {
    SCOPED_TRACE(std::to_string(threads) + " threads");
    cenote::set_num_threads(threads);
    expect_same_bits(replay(one), alone);
  }
  cenote::set_num_threads(before);
  SCOPED_TRACE("a pool of our own");
  cenote::set_parallel_for(uneven_parallel_for);
  const Outcome uneven = replay(one);
  cenote::set_parallel_for(nullptr);
  expect_same_bits(uneven, alone);
}

TEST(Threads, ChangeNoBit) {
  for (const cenote::OpInfo& op : cenote::ops()) {
    for (const LayoutKind layout : kLayoutKinds) {
      for (const cenote::DType dtype : {cenote::DType::f32, cenote::DType::f64, cenote::DType::bf16}) {
        const Case one = large_case(op, layout, dtype);
        SCOPED_TRACE(describe(one));
        check_splits(one);
      }
    }
  }
}

// Gradients are summed for several planes at once where those are small, and part by part where large.
TEST(Threads, ChangeNoBitOfAveragesOfStride1) {
  for (const char* op : {"avg_pool1d", "avg_pool2d", "avg_pool3d"}) {
    for (const LayoutKind layout : kLayoutKinds) {
      for (const bool count_include_pad : {false, true}) {
        for (const std::int64_t longer : {1, 20}) {
          Case one = large_case(*cenote::find_op(op), layout, cenote::DType::f32);
          one.fill = Fill::kNormal;
          one.arguments.stride = 1;
          one.arguments.count_include_pad = count_include_pad;
          one.sizes[2] *= longer;
          if (longer > 1) one.sizes[1] = 3;
          SCOPED_TRACE(describe(one));
          check_splits(one);
        }
      }
    }
  }
}

// Few planes are cut into parts, and indices of every kind meet several of them.
TEST(Threads, ChangeNoBitOfOneUnpooledPlane) {
  constexpr std::int64_t kLonger[] = {8, 2, 1};  // y then is worth several parts
  for (const cenote::OpInfo& op : cenote::ops()) {
    if (!op.reads_indices) continue;
    for (const LayoutKind layout : kLayoutKinds) {
      for (const std::int64_t channels : {1, 3}) {
        for (const std::uint64_t seed : {0, 1, 2}) {
          Case one = large_case(op, layout, cenote::DType::f32);
          one.sizes[1] = channels;
          for (int axis = 0; axis < op.spatial_rank; ++axis)
            one.sizes[2 + axis] *= kLonger[op.spatial_rank - 1];
          one.seed = seed;
          SCOPED_TRACE(describe(one));
          check_splits(one);
          const Outcome got = replay(one);
          const TargetGuard reference("reference");
          expect_same_bits(got, replay(one));
        }
      }
    }
  }
}

TEST(Threads, OwnPoolIsUsed) {
  for (const std::string& target : cenote::cpu_targets()) {
    if (target == "reference") continue;  // its plain loops stay on one thread
    SCOPED_TRACE(target);
    const TargetGuard guard(target);
    pool_calls = 0;
    cenote::set_parallel_for(uneven_parallel_for);
    replay(large_case(*cenote::find_op("max_pool2d"), LayoutKind::kChannelsFirst, cenote::DType::f32));
    cenote::set_parallel_for(nullptr);
    EXPECT_GT(pool_calls.load(), 0);
  }
}

}  // namespace
}  // namespace cenote_test
