// Conversion between dtypes as it is meant: element by element.
#include "backend.h"
#include "reference/element_access.h"

namespace cenote::reference {
namespace {

void convert_elements(const Tensor5& to, const ConstTensor5& from, bool reverse) {
  for_each_plane(from.size, [&](std::int64_t n, std::int64_t c) {
    for_each_in_plane(from.size, n, c, [&](const Array5& position) {
      if (reverse && from.dtype == to.dtype && !is_floating(to.dtype)) {  // -x may lie outside the range
        const auto value = load<std::int64_t>(from, position);
        return store(to, position, from.dtype == DType::u8 ? 255 - value : ~value);
      }
      const auto value = load<double>(from, position);
      store(to, position, reverse ? -value : value);
    });
  });
}

}  // namespace

const ConvertBackend convert{convert_elements};

}  // namespace cenote::reference
