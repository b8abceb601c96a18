// oneDNN, built once against its headers of version 2 and once against those of version 3. Primitives, their
// workspaces and scratchpads are made beforehand; a call executes the primitive and waits for it.
#include <cstdlib>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>
#include <utility>

#include "bench/compare/peers/peer.h"
#ifdef CENOTE_BENCH_ONEDNN_TBB
#include <tbb/global_control.h>
#else
#include <omp.h>
#endif

namespace {

using namespace cenote_bench;
using dnnl::memory;
using Arguments = std::unordered_map<int, memory>;
using Tag = memory::format_tag;

#ifdef CENOTE_BENCH_ONEDNN_TBB
constexpr bool kTbb = true;
#else
constexpr bool kTbb = false;
#endif

memory::data_type data_type_of(cenote::DType dtype) {
  switch (dtype) {
    case cenote::DType::f32:
      return memory::data_type::f32;
    case cenote::DType::f16:
      return memory::data_type::f16;
    case cenote::DType::bf16:
      return memory::data_type::bf16;
    case cenote::DType::i8:
      return memory::data_type::s8;
    case cenote::DType::u8:
      return memory::data_type::u8;
    default:
      throw Unsupported("no such dtype in oneDNN's pooling for the CPU");
  }
}

Tag tag_of(PeerLayout layout, std::size_t spatial_rank) {
  constexpr Tag kFirst[] = {Tag::ncw, Tag::nchw, Tag::ncdhw};
  constexpr Tag kLast[] = {Tag::nwc, Tag::nhwc, Tag::ndhwc};
  constexpr Tag kBlocked16[] = {Tag::nCw16c, Tag::nChw16c, Tag::nCdhw16c};
  constexpr Tag kBlocked8[] = {Tag::nCw8c, Tag::nChw8c, Tag::nCdhw8c};
  const std::size_t at = spatial_rank - 1;
  if (layout == PeerLayout::kPlainFirst) return kFirst[at];
  if (layout == PeerLayout::kPlainLast) return kLast[at];
  const bool wide = dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core;
  return wide ? kBlocked16[at] : kBlocked8[at];
}

memory::dims with_outer(const Problem& problem, const std::vector<std::int64_t>& sizes) {
  memory::dims all{problem.n, problem.c};
  all.insert(all.end(), sizes.begin(), sizes.end());
  return all;
}

/// The numbers of a problem, as oneDNN counts them: an undilated window has dilation 0.
struct Window {
  dnnl::algorithm algorithm;
  memory::dims stride, kernel, dilation, begin, end;

  explicit Window(const Problem& problem)
      : algorithm(problem.kind == PoolKind::kMax ? dnnl::algorithm::pooling_max
                                                 : dnnl::algorithm::pooling_avg_exclude_padding),
        stride(problem.stride),
        kernel(problem.kernel),
        dilation(problem.dilation),
        begin(problem.padding),
        end(problem.padding_end) {
    for (auto& value : dilation) --value;
  }
};

#if DNNL_VERSION_MAJOR >= 3
using Forward = dnnl::pooling_forward;
using Backward = dnnl::pooling_backward;
Forward::primitive_desc describe_forward(const dnnl::engine& engine, dnnl::prop_kind kind, const Window& w,
                                         const memory::desc& x, const memory::desc& y) {
  return {engine, kind, w.algorithm, x, y, w.stride, w.kernel, w.dilation, w.begin, w.end};
}
Backward::primitive_desc describe_backward(const dnnl::engine& engine, const Window& w, const memory::desc& x,
                                           const memory::desc& y, const Forward::primitive_desc& hint) {
  return {engine, w.algorithm, x, y, w.stride, w.kernel, w.dilation, w.begin, w.end, hint};
}
#else
using Forward = dnnl::pooling_v2_forward;
using Backward = dnnl::pooling_v2_backward;
Forward::primitive_desc describe_forward(const dnnl::engine& engine, dnnl::prop_kind kind, const Window& w,
                                         const memory::desc& x, const memory::desc& y) {
  return {{kind, w.algorithm, x, y, w.stride, w.kernel, w.dilation, w.begin, w.end}, engine};
}
Backward::primitive_desc describe_backward(const dnnl::engine& engine, const Window& w, const memory::desc& x,
                                           const memory::desc& y, const Forward::primitive_desc& hint) {
  return {{w.algorithm, x, y, w.stride, w.kernel, w.dilation, w.begin, w.end}, engine, hint};
}
#endif

void* writable(const void* data) { return const_cast<void*>(data); }  // oneDNN's memory knows no const

class OneDnnPool final : public PreparedPool {
 public:
  OneDnnPool(const dnnl::engine& engine, const Problem& problem)
      : engine_(engine), stream_(engine), problem_(problem), plain_tag_(plain_tag()), tag_(own_tag()) {
    set_threads();
    const Window window(problem);
    const auto kind =
        problem.backward ? dnnl::prop_kind::forward_training : dnnl::prop_kind::forward_inference;
    forward_desc_ = describe_forward(engine_, kind, window, desc(problem.x, tag_), desc(problem.y, tag_));
    forward_ = Forward(forward_desc_);
    if (!problem.backward) return;
    backward_ = Backward(
        describe_backward(engine_, window, desc(problem.x, tag_), desc(problem.y, tag_), forward_desc_));
  }

  void bind(const PeerBuffers& buffers) override {
    Arguments forward{{DNNL_ARG_SRC, input(problem_.x, buffers.x)}};
    if (!problem_.backward) {
      forward[DNNL_ARG_DST] = output(problem_.y, buffers.y);
      sets_.push_back(std::move(forward));
      results_.push_back(buffers.y);
      return;
    }
    Arguments backward{{DNNL_ARG_DIFF_DST, input(problem_.y, buffers.grad_y)},
                       {DNNL_ARG_DIFF_SRC, output(problem_.x, buffers.grad_x)}};
    forward[DNNL_ARG_DST] = memory(desc(problem_.y, tag_), engine_);
    if (problem_.kind == PoolKind::kMax) {
      forward[DNNL_ARG_WORKSPACE] = memory(forward_desc_.workspace_desc(), engine_);
      backward[DNNL_ARG_WORKSPACE] = forward[DNNL_ARG_WORKSPACE];
    }
    forward_.execute(stream_, forward);
    stream_.wait();
    sets_.push_back(std::move(backward));
    results_.push_back(buffers.grad_x);
  }

  std::vector<double> turn(const Turn& turn) override {
    set_threads();
    return local_turn([this](std::size_t number) { run(number % sets_.size()); })(turn);
  }

  void run_and_fetch() override {
    set_threads();
    run(0);
    if (tag_ == plain_tag_) return;
    const auto& sizes = problem_.backward ? problem_.x : problem_.y;
    memory plain(desc(sizes, plain_tag_), engine_, results_.front());
    memory own = sets_.front().at(problem_.backward ? DNNL_ARG_DIFF_SRC : DNNL_ARG_DST);
    reorder(own, plain);
  }

  std::int64_t data_bytes() const override { return data_bytes_; }

 private:
  Tag plain_tag() const {
    const PeerLayout plain = problem_.layout == PeerLayout::kOwn ? PeerLayout::kPlainFirst : problem_.layout;
    return tag_of(plain, problem_.x.size());
  }
  Tag own_tag() const { return tag_of(problem_.layout, problem_.x.size()); }

  memory::desc desc(const std::vector<std::int64_t>& sizes, Tag tag) const {
    return {with_outer(problem_, sizes), data_type_of(problem_.dtype), tag};
  }

  void reorder(memory& from, memory& to) {
    dnnl::reorder(from, to).execute(stream_, from, to);
    stream_.wait();
  }

  memory input(const std::vector<std::int64_t>& sizes, const void* data) {
    memory plain(desc(sizes, plain_tag_), engine_, writable(data));
    if (tag_ == plain_tag_) return plain;
    memory own = own_memory(sizes);
    reorder(plain, own);
    return own;
  }

  memory output(const std::vector<std::int64_t>& sizes, void* data) {
    return tag_ == plain_tag_ ? memory(desc(sizes, tag_), engine_, data) : own_memory(sizes);
  }

  memory own_memory(const std::vector<std::int64_t>& sizes) {
    const memory::desc own = desc(sizes, tag_);
    data_bytes_ += static_cast<std::int64_t>(own.get_size());
    return {own, engine_};
  }

  void run(std::size_t set) {
    if (problem_.backward) {
      backward_.execute(stream_, sets_[set]);
    } else {
      forward_.execute(stream_, sets_[set]);
    }
    stream_.wait();
  }

  void set_threads() {
#ifdef CENOTE_BENCH_ONEDNN_TBB
    limit_.reset();  // limits that exist at once add up to their minimum
    limit_ = std::make_unique<tbb::global_control>(tbb::global_control::max_allowed_parallelism,
                                                   static_cast<std::size_t>(problem_.threads));
#else
    omp_set_num_threads(problem_.threads);
#endif
  }

#ifdef CENOTE_BENCH_ONEDNN_TBB
  std::unique_ptr<tbb::global_control> limit_;
#endif
  dnnl::engine engine_;
  dnnl::stream stream_;
  Problem problem_;
  Tag plain_tag_, tag_;
  Forward::primitive_desc forward_desc_;
  Forward forward_;
  Backward backward_;
  std::vector<Arguments> sets_;
  std::vector<void*> results_;
  std::int64_t data_bytes_ = 0;
};

class OneDnn final : public Peer {
 public:
  OneDnn() : engine_(dnnl::engine::kind::cpu, 0) {}

  std::string name() const override {
    const dnnl::version_t* version = dnnl::version();
    return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor);
  }
  std::string version() const override {
    const dnnl::version_t* version = dnnl::version();
    const char* runtime = kTbb ? "SYCL and TBB" : "OpenMP";
    return std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
           std::to_string(version->patch) + ", " + runtime;
  }
  std::string pool() const override { return kTbb ? "TBB" : "OpenMP"; }
  std::vector<PeerLayout> layouts() const override {
    return {PeerLayout::kPlainFirst, PeerLayout::kOwn, PeerLayout::kPlainLast};
  }
  std::unique_ptr<PreparedPool> prepare(const Problem& problem) override {
    try {
      return std::make_unique<OneDnnPool>(engine_, problem);
    } catch (const dnnl::error& error) {
      throw Unsupported(error.what());
    }
  }

 private:
  dnnl::engine engine_;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) Peer* cenote_bench_peer() {
#ifdef CENOTE_BENCH_OPENCL
  setenv("OCL_ICD_FILENAMES", CENOTE_BENCH_OPENCL, /*overwrite=*/0);  // SYCL's way to the CPU
#endif
  return new OneDnn;
}
