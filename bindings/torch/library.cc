// Registration: every row of the registry becomes its operators, with kernels for CPU, Meta and Autograd,
// when the library loads; and cenote starts to run on torch's threads.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cenote/runtime.h"
#include "cenote/torch/ops.h"
#include "kernels.h"

namespace cenote::torch_ops {

namespace {

template <class Kernel>
void add_kernel(torch::Library& library, const OpInfo& op, Form form, c10::DispatchKey key) {
  auto kernel = torch::CppFunction::makeFromBoxedFunctor(std::make_unique<Kernel>(op, form));
  library.impl(operator_name(op, form).c_str(), torch::dispatch(key, std::move(kernel)));
}

void run_on_torch_threads(std::int64_t begin, std::int64_t end, std::int64_t grain, ParallelBody body,
                          void* context) {
  at::parallel_for(begin, end, grain,
                   [&](std::int64_t first, std::int64_t last) { body(context, first, last); });
}

}  // namespace

void use_torch_threads() { set_parallel_for(&run_on_torch_threads); }

TORCH_LIBRARY(cenote, library) {
  use_torch_threads();
  for (const OpInfo& op : ops()) {
    for (const Form form : forms_of(op)) {
      // Whoever looks at a graph must not take two calls that draw numbers for one.
      const bool draws = (op.parameters & kTakesSamples) != 0 && form != Form::kBackward;
      const std::vector<at::Tag> tags(draws ? 1 : 0, at::Tag::nondeterministic_seeded);
      library.def(schema_of(op, form).c_str(), tags);
      add_kernel<DeviceKernel>(library, op, form, c10::DispatchKey::CPU);
      add_kernel<DeviceKernel>(library, op, form, c10::DispatchKey::Meta);
      add_kernel<AutogradKernel>(library, op, form, c10::DispatchKey::Autograd);
    }
  }
}

}  // namespace cenote::torch_ops
