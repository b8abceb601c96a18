// XNNPACK: channels-last alone. Operators, with the tables of pointers that they work by, are made
// beforehand, one per set of buffers; a call runs the operator.
#include <pthreadpool.h>
#include <xnnpack.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "bench/compare/peers/peer.h"

namespace {

using namespace cenote_bench;
using cenote::DType;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct DeleteOperator {
  void operator()(xnn_operator_t op) const { xnn_delete_operator(op); }
};
using OwnedOperator = std::unique_ptr<xnn_operator, DeleteOperator>;

void require(xnn_status status, const char* what) {
  if (status != xnn_status_success)
    throw Unsupported(std::string(what) + " failed with status " + std::to_string(static_cast<int>(status)));
}

/// A problem in XNNPACK's numbers.
struct Window {
  std::uint32_t top, right, bottom, left, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  std::size_t n, c, h, w;

  explicit Window(const Problem& p)
      : top(narrow(p.padding[0])),
        right(narrow(std::max<std::int64_t>(0, p.padding_end[1]))),
        bottom(narrow(std::max<std::int64_t>(0, p.padding_end[0]))),
        left(narrow(p.padding[1])),
        kernel_h(narrow(p.kernel[0])),
        kernel_w(narrow(p.kernel[1])),
        stride_h(narrow(p.stride[0])),
        stride_w(narrow(p.stride[1])),
        dilation_h(narrow(p.dilation[0])),
        dilation_w(narrow(p.dilation[1])),
        n(static_cast<std::size_t>(p.n)),
        c(static_cast<std::size_t>(p.c)),
        h(static_cast<std::size_t>(p.x[0])),
        w(static_cast<std::size_t>(p.x[1])) {}

  static std::uint32_t narrow(std::int64_t value) { return static_cast<std::uint32_t>(value); }
};

OwnedOperator make_max(const Window& k, DType dtype) {
  xnn_operator_t op = nullptr;
  const auto make = [&](auto create, auto low, auto high) {
    require(create(k.top, k.right, k.bottom, k.left, k.kernel_h, k.kernel_w, k.stride_h, k.stride_w,
                   k.dilation_h, k.dilation_w, k.c, k.c, k.c, low, high, 0, &op),
            "xnn_create_max_pooling2d");
  };
  if (dtype == DType::f32) make(xnn_create_max_pooling2d_nhwc_f32, -kInfinity, kInfinity);
  if (dtype == DType::f16) make(xnn_create_max_pooling2d_nhwc_f16, -kInfinity, kInfinity);
  if (dtype == DType::u8) make(xnn_create_max_pooling2d_nhwc_u8, std::uint8_t{0}, std::uint8_t{255});
  if (dtype == DType::i8) make(xnn_create_max_pooling2d_nhwc_s8, std::int8_t{-128}, std::int8_t{127});
  return OwnedOperator(op);
}

void set_up_max(xnn_operator_t op, const Window& k, DType dtype, const void* x, void* y, pthreadpool_t pool) {
  xnn_status status = xnn_status_invalid_parameter;
  if (dtype == DType::f32)
    status = xnn_setup_max_pooling2d_nhwc_f32(op, k.n, k.h, k.w, static_cast<const float*>(x),
                                              static_cast<float*>(y), pool);
  if (dtype == DType::f16) status = xnn_setup_max_pooling2d_nhwc_f16(op, k.n, k.h, k.w, x, y, pool);
  if (dtype == DType::u8)
    status = xnn_setup_max_pooling2d_nhwc_u8(op, k.n, k.h, k.w, static_cast<const std::uint8_t*>(x),
                                             static_cast<std::uint8_t*>(y), pool);
  if (dtype == DType::i8)
    status = xnn_setup_max_pooling2d_nhwc_s8(op, k.n, k.h, k.w, static_cast<const std::int8_t*>(x),
                                             static_cast<std::int8_t*>(y), pool);
  require(status, "xnn_setup_max_pooling2d");
}

OwnedOperator make_average(const Window& k, DType dtype) {
  if (dtype != DType::f32) return nullptr;
  xnn_operator_t op = nullptr;
  require(xnn_create_average_pooling2d_nhwc_f32(k.top, k.right, k.bottom, k.left, k.kernel_h, k.kernel_w,
                                                k.stride_h, k.stride_w, k.c, k.c, k.c, -kInfinity, kInfinity,
                                                0, &op),
          "xnn_create_average_pooling2d");
  return OwnedOperator(op);
}

/// Its own operator for whole images is the faster one.
OwnedOperator make_global_average(const Window& k, DType dtype) {
  if (dtype != DType::f32) return nullptr;
  xnn_operator_t op = nullptr;
  require(xnn_create_global_average_pooling_nwc_f32(k.c, k.c, k.c, -kInfinity, kInfinity, 0, &op),
          "xnn_create_global_average_pooling");
  return OwnedOperator(op);
}

class XnnPool final : public PreparedPool {
 public:
  XnnPool(const Problem& problem, pthreadpool_t pool)
      : window_(problem),
        dtype_(problem.dtype),
        max_(problem.kind == PoolKind::kMax),
        global_(!max_ && problem.kernel == problem.x),
        pool_(pool) {
    if (!make()) throw Unsupported("no such dtype in XNNPACK's pooling");
  }

  void bind(const PeerBuffers& buffers) override {
    OwnedOperator op = make();
    const auto* x = static_cast<const float*>(buffers.x);
    auto* y = static_cast<float*>(buffers.y);
    if (max_) {
      set_up_max(op.get(), window_, dtype_, buffers.x, buffers.y, pool_);
    } else if (global_) {
      require(
          xnn_setup_global_average_pooling_nwc_f32(op.get(), window_.n, window_.h * window_.w, x, y, pool_),
          "xnn_setup_global_average_pooling");
    } else {
      require(xnn_setup_average_pooling2d_nhwc_f32(op.get(), window_.n, window_.h, window_.w, x, y, pool_),
              "xnn_setup_average_pooling2d");
    }
    operators_.push_back(std::move(op));
  }

  std::vector<double> turn(const Turn& turn) override {
    return local_turn([this](std::size_t number) { run(number % operators_.size()); })(turn);
  }

  void run_and_fetch() override { run(0); }

 private:
  OwnedOperator make() const {
    if (max_) return make_max(window_, dtype_);
    return global_ ? make_global_average(window_, dtype_) : make_average(window_, dtype_);
  }

  void run(std::size_t set) {
    if (xnn_run_operator(operators_[set].get(), pool_) != xnn_status_success)
      throw std::runtime_error("xnn_run_operator failed");
  }

  Window window_;
  DType dtype_;
  bool max_, global_;
  pthreadpool_t pool_;
  std::vector<OwnedOperator> operators_;
};

struct DeletePool {
  void operator()(pthreadpool_t pool) const { pthreadpool_destroy(pool); }
};

class Xnn final : public Peer {
 public:
  Xnn() {
    if (xnn_initialize(nullptr) != xnn_status_success) throw std::runtime_error("xnn_initialize failed");
  }

  std::string name() const override { return "XNNPACK"; }
  std::string version() const override { return CENOTE_BENCH_XNNPACK_VERSION ", pthreadpool"; }
  std::string pool() const override { return "pthreadpool"; }
  std::vector<PeerLayout> layouts() const override { return {PeerLayout::kPlainLast}; }

  std::unique_ptr<PreparedPool> prepare(const Problem& problem) override {
    if (problem.backward) throw Unsupported("XNNPACK has no backward");
    if (problem.x.size() != 2) throw Unsupported("XNNPACK pools planes alone");
    if (threads_ != problem.threads)
      pool_.reset(pthreadpool_create(static_cast<std::size_t>(problem.threads)));
    threads_ = problem.threads;
    return std::make_unique<XnnPool>(problem, pool_.get());
  }

 private:
  std::unique_ptr<pthreadpool, DeletePool> pool_;
  int threads_ = 0;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) Peer* cenote_bench_peer() { return new Xnn; }
