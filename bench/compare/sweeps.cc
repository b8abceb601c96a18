// Rows that change one thing: the kernel, the batch, the channels, the dtype, the threads; and tensors so
// small that the call costs more than the pooling.
#include <fmt/format.h>

#include <initializer_list>

#include "cases.h"

namespace cenote_bench {

namespace {

using cenote::DType;
using Sizes = std::vector<std::int64_t>;

constexpr const char* kBothKinds[] = {"max", "avg"};

void append(std::vector<Row>& rows, const std::vector<Row>& more) {
  rows.insert(rows.end(), more.begin(), more.end());
}

Op op_of(const std::string& kind, int rank, const Window& window) {
  return kind == "max" ? max_op(rank, window) : avg_op(rank, window);
}

std::vector<Row> kernel_rows() {
  std::vector<Row> rows, planes;
  for (const char* kind : kBothKinds) {
    for (const std::int64_t k : {2, 3, 5, 8, 17, 33, 40, 65, 129, 257, 513, 1024})
      rows.push_back({"1-D kernels", "", op_of(kind, 1, square(k, 1)), {4, 64, 4096}});
    for (const std::int64_t k : {2, 3, 5, 7, 9, 13, 17, 25, 33})
      planes.push_back({"kernels", "", op_of(kind, 2, square(k, 1, k / 2)), {4, 64, 56, 56}});
  }
  append(rows, with_layouts(planes));
  return rows;
}

std::vector<Row> sequence_rows() {
  const auto row = [](std::int64_t k, const Sizes& shape) {
    return Row{"1-D strided", "", max_op(1, square(k, k)), shape};
  };
  std::vector<Row> rows{row(4, {32, 64, 8177}), row(4, {32, 128, 2014}),  row(4, {32, 256, 473}),
                        row(4, {32, 256, 118}), row(10, {100, 10, 5905}), row(5, {1, 128, 500}),
                        row(3, {32, 80, 4096})};
  Window dilated = square(200, 10, 100);
  dilated.dilation = 10;
  rows.push_back({"dilated", "", max_op(1, dilated), {4, 64, 8192}});
  Window atrous = square(3, 1, 2);
  atrous.padding = {1};
  atrous.dilation = 2;
  append(rows, with_layouts({{"dilated", "", max_op(2, atrous), {32, 64, 56, 56}}}));
  return rows;
}

std::vector<Row> size_rows() {
  std::vector<Row> rows;
  const Op max = max_op(2, square(3, 2, 1));
  for (const std::int64_t n : {1, 2, 4, 8, 16, 32, 64}) rows.push_back({"batch", "", max, {n, 64, 112, 112}});
  for (const std::int64_t c : {1, 3, 17}) {
    for (const Op& op : {max, avg_op(2, square(2, 2))})
      rows.push_back({"channels", "", op, {32, c, 224, 224}});
  }
  return with_layouts(rows);
}

std::vector<Row> dtype_rows() {
  const Sizes shape{32, 64, 112, 112};
  const Op max = max_op(2, square(3, 2, 1)), avg = avg_op(2, square(2, 2));
  std::vector<Row> rows;
  const auto add = [&](const Op& op, DType dtype, const std::vector<const char*>& passes) {
    Row row{"dtypes", "", op, shape};
    row.dtype = dtype;
    append(rows, with_passes(with_layouts({row}), passes));
  };
  for (const DType dtype : {DType::f16, DType::bf16, DType::f64}) {
    add(max, dtype, {kForward, kForwardIndices, kBackward});
    add(avg, dtype, {kForward, kBackward});
  }
  for (const DType dtype : {DType::i8, DType::u8}) add(max, dtype, {kForward, kForwardIndices});
  return rows;
}

std::vector<Row> latency_rows() {
  std::vector<Row> rows;
  for (const Sizes& shape : {Sizes{1, 3, 8, 8}, Sizes{1, 16, 8, 8}, Sizes{1, 64, 7, 7}, Sizes{1, 64, 28, 28},
                             Sizes{8, 32, 16, 16}}) {
    for (const Op& op : {max_op(2, square(2, 2)), max_op(2, square(3, 2, 1)), avg_op(2, square(2, 2)),
                         Op{"GAP", "global_avg_pool2d"}})
      rows.push_back({"latency", "", op, shape});
  }
  for (Row& row : rows) row.data = Data::kCache;
  return with_layouts(rows);
}

std::vector<Row> autograd_rows() {
  std::vector<Row> rows;
  const Op max = max_op(2, square(3, 2, 1));
  for (const Op& op : {max, avg_op(2, square(2, 2)), Op{"GAP", "global_avg_pool2d"}}) {
    for (const std::int64_t n : {1, 32}) rows.push_back({"autograd", "", op, {n, 64, 112, 112}});
  }
  rows.push_back({"autograd", "", max_op(3, square(2, 2)), {4, 64, 32, 32, 32}});
  return with_passes(with_layouts(rows), {kAutograd});
}

std::vector<Row> thread_rows(int threads) {
  const Op max = max_op(2, square(3, 2, 1)), avg = avg_op(2, square(2, 2)),
           large = max_op(2, square(13, 1, 6));
  std::vector<Row> rows;
  for (int count = 1; count <= threads; ++count) {
    for (const Op& op : {max, avg}) {
      rows.push_back({"threads", "", op, {32, 64, 112, 112}});
      rows.back().threads = count;
    }
  }
  rows = with_passes(with_layouts(rows), {kForward, kBackward});
  std::vector<Row> in_cache;
  for (int count = 1; count <= threads; ++count) {
    for (const Sizes& shape : {Sizes{1, 64, 112, 112}, Sizes{1, 64, 28, 28}, Sizes{1, 16, 8, 8}}) {
      for (const Op& op : {max, large}) {
        in_cache.push_back({"threads", "", op, shape});
        in_cache.back().threads = count;
        in_cache.back().data = Data::kCache;
      }
    }
  }
  append(rows, with_layouts(in_cache));
  return rows;
}

}  // namespace

std::vector<Row> sweep_rows(int threads) {
  std::vector<Row> rows = kernel_rows();
  append(rows, sequence_rows());
  append(rows, size_rows());
  append(rows, dtype_rows());
  append(rows, latency_rows());
  append(rows, autograd_rows());
  append(rows, thread_rows(threads));
  return rows;
}

}  // namespace cenote_bench
