// Max pooling, forward and backward, without a framework.
#include <cenote/cenote.h>

#include <cstdio>
#include <vector>

int main() {
  const std::vector<float> image = {1,  3,  2,  4,   //
                                    5,  7,  6,  8,   //
                                    9,  11, 10, 12,  //
                                    13, 15, 14, 16};
  const cenote::ConstTensorView x(image.data(), {1, 1, 4, 4});  // [N, C, H, W]; strides are optional

  const cenote::MaxPoolOptions options{.kernel = {2, 2}};  // stride defaults to the kernel, as in PyTorch
  const auto [y, indices] = cenote::max_pool2d_with_indices(x, options);
  for (int i = 0; i < y.size(); ++i) {
    std::printf("max %g at position %d\n", y.data<float>()[i],
                static_cast<int>(indices.data<std::int64_t>()[i]));
  }

  const cenote::Tensor grad_x = cenote::max_pool2d_backward(y, indices, x.sizes, options);
  std::printf("gradient at position 5: %g\n", grad_x.data<float>()[5]);
}
