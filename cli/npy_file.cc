// NumPy's .npy format: a magic string, a length, a Python dict literal, then the elements.
//
// The reader accepts the three keys that NumPy writes, in any order, each once, and nothing else; the file
// must hold exactly the bytes that the shape asks for, so a lying header cannot make it allocate. Not
// handled: other dtypes, big-endian data, structured and object arrays, arrays appended to one file.
// Format: numpy.lib.format in the NumPy reference.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <iterator>
#include <optional>
#include <string_view>

#include "array_file.h"
#include "cenote/error.h"

namespace cenote::cli {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxHeaderBytes = 65'536;

[[noreturn]] void fail_npy(const std::string& path, const std::string& what) {
  throw Error(ErrorCode::kBadFile, fmt::format("{}: {}", path, what));
}

struct NpyHeader {
  std::string descr;
  bool fortran_order = false;
  Dims shape;
};

/// Parses the dict literal; strict, without recursion.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  NpyHeader parse() {
    expect('{');
    while (!accept('}')) {
      parse_entry();
      if (accept(',')) continue;
      expect('}');
      break;
    }
    skip_spaces();
    if (!text_.empty()) bad("something follows the dict");
    if (!descr_ || !fortran_order_ || !shape_) bad("it needs the keys descr, fortran_order and shape");
    return {*descr_, *fortran_order_, *shape_};
  }

 private:
  [[noreturn]] void bad(std::string_view what) const {
    fail_npy(path_, fmt::format("malformed NumPy header: {}", what));
  }

  void skip_spaces() {
    const std::size_t end = text_.find_first_not_of(" \t\n");
    text_.remove_prefix(end == std::string_view::npos ? text_.size() : end);
  }

  bool accept(char c) {
    skip_spaces();
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }

  void expect(char c) {
    if (!accept(c)) bad(fmt::format("expected '{}'", c));
  }

  std::string parse_string() {
    skip_spaces();
    const char quote = text_.empty() ? '\0' : text_.front();
    if (quote != '\'' && quote != '"') bad("expected a string (structured dtypes are not supported)");
    text_.remove_prefix(1);
    const std::size_t end = text_.find(quote);
    if (end == std::string_view::npos) bad("a string does not end");
    std::string value(text_.substr(0, end));
    text_.remove_prefix(end + 1);
    return value;
  }

  bool parse_bool() {
    skip_spaces();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return value;
    }
    bad("fortran_order must be True or False");
  }

  Dims parse_shape() {
    expect('(');
    Dims shape;
    while (!accept(')')) {
      if (shape.size() == Dims::kMaxRank) bad(fmt::format("more than {} dimensions", Dims::kMaxRank));
      shape.push_back(parse_size());
      if (accept(',')) continue;
      expect(')');
      break;
    }
    return shape;
  }

  std::int64_t parse_size() {
    skip_spaces();
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error == std::errc::result_out_of_range) bad("a size does not fit into 63 bits");
    if (error != std::errc() || value < 0) bad("shape must be a tuple of sizes");
    text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
    return value;
  }

  void parse_entry() {
    const std::string key = parse_string();
    expect(':');
    if (key == "descr" && !descr_) {
      descr_ = parse_string();
    } else if (key == "fortran_order" && !fortran_order_) {
      fortran_order_ = parse_bool();
    } else if (key == "shape" && !shape_) {
      shape_ = parse_shape();
    } else {
      bad("an unknown or repeated key");
    }
  }

  std::string_view text_;
  const std::string& path_;
  std::optional<std::string> descr_;
  std::optional<bool> fortran_order_;
  std::optional<Dims> shape_;
};

/// The header's text, and in `data` where the elements start.
std::string_view header_text(std::span<const std::byte> start, const std::string& path, std::size_t& data) {
  const std::string_view text(reinterpret_cast<const char*>(start.data()), start.size());
  if (!text.starts_with(kMagic)) fail_npy(path, "not a NumPy file");
  constexpr std::size_t kVersionAt = 6;
  constexpr std::size_t kLengthAt = 8;
  if (text.size() < kLengthAt) fail_npy(path, "truncated NumPy header");
  const int major = std::to_integer<int>(start[kVersionAt]);
  if (major < 1 || major > 3) fail_npy(path, fmt::format("unknown NumPy format version {}", major));
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  if (text.size() < kLengthAt + length_bytes) fail_npy(path, "truncated NumPy header");
  std::size_t length = 0;
  for (std::size_t i = 0; i < length_bytes; ++i) {
    length |= std::to_integer<std::size_t>(start[kLengthAt + i]) << (8 * i);
  }
  if (length > kMaxHeaderBytes) fail_npy(path, fmt::format("NumPy header of {} bytes is too long", length));
  data = kLengthAt + length_bytes + length;
  if (text.size() < data) fail_npy(path, "truncated NumPy header");
  static_assert(kLengthAt + 4 + kMaxHeaderBytes <= kStartBytes);
  return text.substr(data - length, length);
}

struct NamedDType {
  const char* descr;
  DType dtype;
};

/// NumPy has no bfloat16.
constexpr NamedDType kDTypes[] = {{"<f4", DType::f32}, {"<f8", DType::f64}, {"<f2", DType::f16},
                                  {"|i1", DType::i8},  {"|u1", DType::u8},  {"<i4", DType::i32},
                                  {"<i8", DType::i64}};

DType dtype_of(const std::string& descr, const std::string& path, NpyContent content) {
  if (content == NpyContent::kIndices && descr != "<i8") {
    fail_npy(path, fmt::format("indices must be of dtype '<i8', got '{}'", descr));
  }
  for (const NamedDType& one : kDTypes)
    if (descr == one.descr) return one.dtype;
  if (descr.starts_with('>')) fail_npy(path, fmt::format("big-endian dtype '{}' is not supported", descr));
  if (descr.find('O') != std::string::npos) fail_npy(path, "object arrays are not supported");
  fail_npy(path, fmt::format("dtype '{}' is not supported; use <f4, <f8, <f2, |i1, |u1, <i4 or <i8", descr));
}

/// Bytes that the shape asks for. Sizes of 0 count as 1 for the overflow check, so strides are safe too.
std::size_t payload_bytes(const Dims& shape, DType dtype, const std::string& path) {
  std::int64_t bytes = static_cast<std::int64_t>(size_of(dtype));
  bool is_empty = false;
  for (const std::int64_t size : shape) {
    is_empty = is_empty || size == 0;
    if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(size, 1), &bytes)) {
      fail_npy(path, fmt::format("shape {} does not fit into 63 bits", to_string(shape)));
    }
  }
  return is_empty ? 0 : static_cast<std::size_t>(bytes);
}

/// What the header says about the elements.
struct NpyLayout {
  DType dtype = DType::f32;
  Dims shape;
  bool fortran_order = false;
  std::size_t data = 0;   // where the elements start
  std::size_t bytes = 0;  // of all elements
};

/// `start` is the file, or at least its first kStartBytes; `file_bytes` is its whole size.
NpyLayout read_layout(std::span<const std::byte> start, std::uint64_t file_bytes, const std::string& path,
                      NpyContent content) {
  NpyLayout layout;
  const NpyHeader header = HeaderParser(header_text(start, path, layout.data), path).parse();
  layout.dtype = dtype_of(header.descr, path, content);
  layout.shape = header.shape;
  layout.fortran_order = header.fortran_order;
  layout.bytes = payload_bytes(header.shape, layout.dtype, path);
  if (file_bytes - layout.data != layout.bytes) {
    fail_npy(path,
             fmt::format("shape {} of {} needs {} bytes of data, the file holds {}", to_string(layout.shape),
                         name_of(layout.dtype), layout.bytes, file_bytes - layout.data));
  }
  return layout;
}

Dims fortran_strides(const Dims& shape) {
  Dims strides;
  std::int64_t stride = 1;
  for (const std::int64_t size : shape) {
    strides.push_back(stride);
    stride *= std::max<std::int64_t>(size, 1);
  }
  return strides;
}

const char* descr_of(DType dtype) {
  for (const NamedDType& one : kDTypes)
    if (one.dtype == dtype) return one.descr;
  throw Error(ErrorCode::kUnsupported, fmt::format("cannot write {} to a NumPy file", name_of(dtype)));
}

}  // namespace

void check_npy_start(std::span<const std::byte> start, std::uint64_t file_bytes, const std::string& path,
                     NpyContent content) {
  read_layout(start, file_bytes, path, content);
}

Tensor decode_npy(std::span<const std::byte> file, const std::string& path, NpyContent content) {
  const NpyLayout layout = read_layout(file, file.size(), path, content);
  Tensor tensor(layout.dtype, layout.shape,
                layout.fortran_order ? fortran_strides(layout.shape) : dense_strides(layout.shape));
  if (layout.bytes > 0) std::memcpy(tensor.view().data, file.data() + layout.data, layout.bytes);
  return tensor;
}

std::vector<std::byte> encode_npy(const Tensor& tensor) {
  const Dims& shape = tensor.sizes();
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", descr_of(tensor.dtype()),
                  fmt::join(shape.begin(), shape.end(), ", "), shape.size() == 1 ? "," : "");
  // Magic, version 1.0 and a two-byte length come first; the whole is padded to 64 bytes with a final
  // newline.
  constexpr std::size_t kPreamble = 10;
  constexpr std::size_t kAlignment = 64;
  header.append((kAlignment - (kPreamble + header.size() + 1) % kAlignment) % kAlignment, ' ');
  header.push_back('\n');

  std::string preamble(kMagic);
  preamble +=
      {'\x01', '\x00', static_cast<char>(header.size() & 0xFF), static_cast<char>(header.size() >> 8)};
  const auto elements = static_cast<std::size_t>(tensor.size()) * size_of(tensor.dtype());
  std::vector<std::byte> file(kPreamble + header.size() + elements);
  std::memcpy(file.data(), preamble.data(), kPreamble);
  std::memcpy(file.data() + kPreamble, header.data(), header.size());
  if (elements > 0) std::memcpy(file.data() + kPreamble + header.size(), tensor.view().data, elements);
  return file;
}

}  // namespace cenote::cli
