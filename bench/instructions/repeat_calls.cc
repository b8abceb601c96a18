// cenote_repeat_calls NAME CALLS: one op on one tensor, CALLS times on one thread, for tools that count what
// a process does. Without arguments: the names, and how many elements each op writes.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "cenote/cenote.h"

namespace {

using cenote::DType;
using cenote::Layout;
using cenote::Tensor;

struct Case {
  std::string name;
  std::int64_t written;
  std::function<void()> call;
};

/// [1, 64, 112, 112] f32.
Tensor input(Layout layout) {
  Tensor x(DType::f32, {1, 64, 112, 112}, layout);
  for (std::int64_t i = 0; i < x.size(); ++i) x.data<float>()[i] = static_cast<float>(i * 7919 % 10007);
  return x;
}

cenote::MaxPoolOptions three_by_three() {
  cenote::MaxPoolOptions options;
  options.kernel = 3;
  options.stride = 2;
  options.padding = 1;
  return options;
}

Case max_forward(const char* name, Layout layout) {
  const Tensor x = input(layout);
  const Tensor y = cenote::max_pool2d(x, three_by_three());
  return {name, y.size(), [=] { cenote::max_pool2d_into(y, x, three_by_three()); }};
}

Case max_backward() {
  const Tensor grad_x = input(Layout::kChannelsFirst);
  const cenote::MaxPoolResult pooled = cenote::max_pool2d_with_indices(grad_x, three_by_three(), DType::u8);
  return {"max 3x3 s2 p1 backward, channels-first", grad_x.size(),
          [=] { cenote::max_pool2d_backward_into(grad_x, pooled.values, pooled.indices, three_by_three()); }};
}

Case global_average() {
  const Tensor x = input(Layout::kChannelsFirst);
  const Tensor y = cenote::global_avg_pool2d(x);
  return {"GAP forward, channels-first", y.size(), [=] { cenote::global_avg_pool2d_into(y, x); }};
}

std::vector<Case> all_cases() {
  return {max_forward("max 3x3 s2 p1 forward, channels-first", Layout::kChannelsFirst),
          max_forward("max 3x3 s2 p1 forward, channels-last", Layout::kChannelsLast), max_backward(),
          global_average()};
}

int run(const std::vector<std::string>& arguments) {
  cenote::set_num_threads(1);
  for (const Case& one : all_cases()) {
    if (arguments.empty()) std::printf("%s\t%lld\n", one.name.c_str(), static_cast<long long>(one.written));
    if (arguments.size() == 2 && one.name == arguments[0]) {
      for (int i = std::stoi(arguments[1]); i > 0; --i) one.call();
      return 0;
    }
  }
  if (arguments.empty()) return 0;
  std::fprintf(stderr, "usage: cenote_repeat_calls [NAME CALLS], NAME as listed without arguments\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cenote_repeat_calls: %s\n", error.what());
    return 1;
  }
}
