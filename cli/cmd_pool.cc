// `cenote pool OP IN OUT`: runs one op of the registry on a NumPy array or an image.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "array_file.h"
#include "cenote/error.h"
#include "cenote/registry.h"
#include "commands.h"

namespace cenote::cli {
namespace {

/// The command line as typed; an empty text means that the option was not given.
struct PoolFlags {
  std::string op, input, output, indices;
  std::string kernel, stride, padding, padding_end, dilation, output_size, divisor_override;
  std::string norm_type, sharpness, p, eps;
  std::string output_ratio, samples, seed;
  std::string x_scale, x_zero_point, y_scale, y_zero_point;
  IndexOrder index_order = IndexOrder::kPlane;
  Convention convention = Convention::kPyTorch;
  AutoPad auto_pad = AutoPad::kNotSet;
  bool ceil_mode = false;
  bool count_include_pad = true;
  bool no_count_include_pad = false;
};

/// Which options an op must read for each flag to make sense.
struct FlagRule {
  const char* flag;
  std::uint32_t parameter;
};

constexpr std::array<FlagRule, 24> kFlagRules = {{
    {"--kernel", kTakesWindow | kTakesUnpool | kTakesSamples},
    {"--stride", kTakesWindow | kTakesUnpool},
    {"--padding", kTakesWindow | kTakesUnpool},
    {"--padding-end", kTakesWindow},
    {"--dilation", kTakesWindow},
    {"--ceil-mode", kTakesWindow},
    {"--convention", kTakesWindow},
    {"--auto-pad", kTakesWindow},
    {"--count-include-pad", kTakesDivisor},
    {"--no-count-include-pad", kTakesDivisor},
    {"--divisor-override", kTakesDivisor},
    {"--output-size", kTakesOutputSize | kTakesUnpool | kTakesSamples},
    {"--norm-type", kTakesNormType},
    {"--sharpness", kTakesSharpness},
    {"--p", kTakesGem},
    {"--eps", kTakesGem},
    {"--index-order", kTakesIndexOrder | kTakesUnpool},
    {"--x-scale", kTakesQuantization},
    {"--x-zero-point", kTakesQuantization},
    {"--y-scale", kTakesQuantization},
    {"--y-zero-point", kTakesQuantization},
    {"--output-ratio", kTakesSamples},
    {"--samples", kTakesSamples},
    {"--seed", kTakesSamples},
}};

template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorCode::kInvalidArgument, "[pool] " + fmt::format(format, std::forward<Args>(args)...));
}

/// Levenshtein distance, for suggestions.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

const OpInfo& require_op(const std::string& name) {
  if (const OpInfo* op = find_op(name)) return *op;
  constexpr std::size_t kFarthest = 3;
  std::size_t nearest = kFarthest + 1;
  std::vector<std::string_view> similar;
  for (const OpInfo& op : ops()) {
    const std::size_t distance = edit_distance(name, op.name);
    if (distance < nearest) similar.clear();
    nearest = std::min(nearest, distance);
    if (distance == nearest && distance <= kFarthest) similar.push_back(op.name);
  }
  fail_usage("unknown op '{}'{}{}; `cenote info --ops` lists all", name,
             similar.empty() ? "" : ", did you mean ", fmt::join(similar, ", "));
}

template <class Integer = std::int64_t>
Integer parse_integer(const char* flag, std::string_view whole, std::string_view part) {
  Integer value = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
  if (error == std::errc::result_out_of_range) fail_usage("{} {} does not fit into 64 bits", flag, whole);
  if (error != std::errc() || end != part.data() + part.size()) {
    fail_usage("{} must be an integer or a list like 3,2, got '{}'", flag, whole);
  }
  return value;
}

/// "3" or "3,2" into `dims`, which keeps its default when the option was not given.
void parse_dims(const char* flag, const std::string& text, Dims& dims) {
  if (text.empty()) return;
  dims = {};
  std::string_view rest = text;
  while (true) {
    const std::size_t comma = rest.find(',');
    if (dims.size() == 3) fail_usage("{} takes at most 3 values, got '{}'", flag, text);
    dims.push_back(parse_integer(flag, text, rest.substr(0, comma)));
    if (comma == std::string_view::npos) return;
    rest.remove_prefix(comma + 1);
  }
}

/// "2.5", also "inf"; whether the number makes sense is for the op to say.
double parse_number(const char* flag, std::string_view whole, std::string_view part) {
  double value = 0;
  const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
  if (error == std::errc::result_out_of_range) fail_usage("{} {} does not fit into a double", flag, whole);
  if (error != std::errc() || end != part.data() + part.size())
    fail_usage("{} must be a number, got '{}'", flag, whole);
  return value;
}

/// "3" or "2.5,3,4", one per channel.
std::vector<double> parse_numbers(const char* flag, const std::string& text) {
  std::vector<double> values;
  std::string_view rest = text;
  while (true) {
    const std::size_t comma = rest.find(',');
    values.push_back(parse_number(flag, text, rest.substr(0, comma)));
    if (comma == std::string_view::npos) return values;
    rest.remove_prefix(comma + 1);
  }
}

/// None of the four means that the integers are not quantised.
std::optional<Quantization> parse_quantization(const PoolFlags& flags) {
  if (flags.x_scale.empty() && flags.x_zero_point.empty() && flags.y_scale.empty() &&
      flags.y_zero_point.empty()) {
    return std::nullopt;
  }
  Quantization quantization;
  const auto scale = [](const char* flag, const std::string& text, double& value) {
    if (!text.empty()) value = parse_number(flag, text, text);
  };
  const auto zero_point = [](const char* flag, const std::string& text, std::int64_t& value) {
    if (!text.empty()) value = parse_integer(flag, text, text);
  };
  scale("--x-scale", flags.x_scale, quantization.x_scale);
  zero_point("--x-zero-point", flags.x_zero_point, quantization.x_zero_point);
  scale("--y-scale", flags.y_scale, quantization.y_scale);
  zero_point("--y-zero-point", flags.y_zero_point, quantization.y_zero_point);
  return quantization;
}

OpArguments parse_arguments(const PoolFlags& flags) {
  OpArguments arguments;
  parse_dims("--kernel", flags.kernel, arguments.kernel);
  parse_dims("--stride", flags.stride, arguments.stride);
  parse_dims("--padding", flags.padding, arguments.padding);
  parse_dims("--padding-end", flags.padding_end, arguments.padding_end);
  parse_dims("--dilation", flags.dilation, arguments.dilation);
  parse_dims("--output-size", flags.output_size, arguments.output_size);
  arguments.ceil_mode = flags.ceil_mode;
  arguments.convention = flags.convention;
  arguments.auto_pad = flags.auto_pad;
  arguments.index_order = flags.index_order;
  arguments.quantization = parse_quantization(flags);
  arguments.count_include_pad = flags.count_include_pad && !flags.no_count_include_pad;
  if (!flags.divisor_override.empty()) {
    arguments.divisor_override =
        parse_integer("--divisor-override", flags.divisor_override, flags.divisor_override);
  }
  if (!flags.norm_type.empty())
    arguments.norm_type = parse_number("--norm-type", flags.norm_type, flags.norm_type);
  if (!flags.sharpness.empty())
    arguments.sharpness = parse_number("--sharpness", flags.sharpness, flags.sharpness);
  if (!flags.p.empty()) arguments.p = parse_numbers("--p", flags.p);
  if (!flags.eps.empty()) arguments.eps = parse_number("--eps", flags.eps, flags.eps);
  if (!flags.output_ratio.empty())
    arguments.output_ratio = parse_numbers("--output-ratio", flags.output_ratio);
  if (!flags.seed.empty()) arguments.seed = parse_integer<std::uint64_t>("--seed", flags.seed, flags.seed);
  return arguments;
}

/// An empty text would read like an option that was not given.
void check_not_empty(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& text : option->results()) {
      if (text.empty()) fail_usage("{} must not be empty", option->get_name());
    }
  }
}

/// An option that the op does not read is a mistake, and so is a missing one that it needs.
void check_flags(const CLI::App& command, const OpInfo& op) {
  for (const FlagRule& rule : kFlagRules) {
    if (command.count(rule.flag) > 0 && (op.parameters & rule.parameter) == 0) {
      fail_usage("{} does not read {}", op.name, rule.flag);
    }
  }
  if (command.count("--indices") > 0 && !op.uses_indices()) {
    fail_usage("{} has no --indices, only max ops do", op.name);
  }
  if (command.count("--index-order") > 0 && command.count("--indices") == 0) {
    fail_usage("--index-order needs --indices");
  }
  if (op.reads_indices && command.count("--indices") == 0) fail_usage("{} needs --indices", op.name);
  if ((op.parameters & (kTakesWindow | kTakesUnpool | kTakesSamples)) != 0 &&
      command.count("--kernel") == 0) {
    fail_usage("{} needs --kernel", op.name);
  }
  if ((op.parameters & kTakesOutputSize) != 0 && command.count("--output-size") == 0) {
    fail_usage("{} needs --output-size", op.name);
  }
}

void check_paths(const PoolFlags& flags) {
  require_array_path(flags.input);
  require_array_path(flags.output);
  if (flags.indices.empty()) return;
  if (!flags.indices.ends_with(".npy"))
    fail_usage("--indices must name a .npy file, got '{}'", flags.indices);
  const auto resolve = [](const std::string& path) {
    std::error_code ignored;
    return std::filesystem::weakly_canonical(std::filesystem::absolute(path, ignored), ignored);
  };
  if (resolve(flags.indices) == resolve(flags.output)) {
    fail_usage("--indices and the output are the same file '{}'", flags.indices);
  }
}

void run_pool(const CLI::App& command, const PoolFlags& flags) {
  check_not_empty(command);
  const OpInfo& op = require_op(flags.op);
  check_flags(command, op);
  check_paths(flags);
  OpArguments arguments = parse_arguments(flags);

  const Tensor x = read_array(flags.input);
  const Tensor samples = flags.samples.empty() ? Tensor() : read_array(flags.samples);
  if (!flags.samples.empty()) arguments.samples = samples;
  const Dims y_sizes = op.shape(x.sizes(), arguments);
  const Tensor indices = op.reads_indices        ? read_indices(flags.indices)
                         : flags.indices.empty() ? Tensor()
                                                 : Tensor(DType::i64, y_sizes);
  const Tensor y(x.dtype(), y_sizes);
  op.forward(y, flags.indices.empty() ? nullptr : &indices.view(), x, arguments);

  // Both are encoded before either is written, so bad input leaves no file behind.
  const std::vector<std::byte> values_file = encode_array(flags.output, y);
  if (op.records_indices && !flags.indices.empty())
    write_array_file(flags.indices, encode_array(flags.indices, indices));
  write_array_file(flags.output, values_file);
  fmt::print("{} {} -> {} in {}\n", op.name, to_string(x.sizes()), to_string(y_sizes), flags.output);
}

/// One value for all axes, or one per axis.
void add_dims(CLI::App& command, const char* flag, std::string& text, const char* help) {
  command.add_option(flag, text, help)->type_name("N[,N]");
}

void add_window_options(CLI::App& command, PoolFlags& flags) {
  add_dims(command, "--kernel", flags.kernel,
           "Window size: one value for all axes, or one per axis (3 or 3,2)");
  add_dims(command, "--stride", flags.stride, "Step between windows (default: the kernel)");
  add_dims(command, "--padding", flags.padding, "Padding at the begin of each axis (default: 0)");
  add_dims(command, "--padding-end", flags.padding_end,
           "Padding at the end of each axis (default: --padding)");
  add_dims(command, "--dilation", flags.dilation, "Distance between the elements of a window (default: 1)");
  command.add_flag("--ceil-mode", flags.ceil_mode, "Round the output size up instead of down");
  const std::map<std::string, Convention> conventions = {{"pytorch", Convention::kPyTorch},
                                                         {"onnx", Convention::kOnnx}};
  command
      .add_option("--convention", flags.convention,
                  "Bound of the padding: pytorch (half of the window) or onnx (none) (default: pytorch)")
      ->transform(CLI::CheckedTransformer(conventions).description(""))
      ->type_name("NAME");
  const std::map<std::string, AutoPad> auto_pads = {{"NOTSET", AutoPad::kNotSet},
                                                    {"SAME_UPPER", AutoPad::kSameUpper},
                                                    {"SAME_LOWER", AutoPad::kSameLower},
                                                    {"VALID", AutoPad::kValid}};
  command
      .add_option("--auto-pad", flags.auto_pad,
                  "Padding from the sizes: SAME_UPPER (ceil(size / stride) outputs, an odd cell at the end), "
                  "SAME_LOWER (at the begin), VALID (none)")
      ->transform(CLI::CheckedTransformer(auto_pads).description(""))
      ->type_name("NAME");
  CLI::Option* count =
      command.add_option("--count-include-pad", flags.count_include_pad,
                         "avg: padding counts in the divisor, true or false (default: true)");
  command
      .add_flag("--no-count-include-pad", flags.no_count_include_pad, "The same as --count-include-pad false")
      ->excludes(count);
  command.add_option("--divisor-override", flags.divisor_override, "avg: divide by this instead")
      ->type_name("N");
}

void add_quantization_options(CLI::App& command, PoolFlags& flags) {
  const auto scale = [&](const char* flag, std::string& text, const char* help) {
    command.add_option(flag, text, help)->type_name("S");
  };
  const auto zero_point = [&](const char* flag, std::string& text, const char* help) {
    command.add_option(flag, text, help)->type_name("N");
  };
  scale("--x-scale", flags.x_scale,
        "avg of i8 or u8 .npy: x stands for scale * (x - zero point) (default: 1)");
  zero_point("--x-zero-point", flags.x_zero_point,
             "avg of i8 or u8: the element that stands for 0 (default: 0)");
  scale("--y-scale", flags.y_scale, "the same for the output (default: 1)");
  zero_point("--y-zero-point", flags.y_zero_point, "the same for the output (default: 0)");
}

void add_smooth_options(CLI::App& command, PoolFlags& flags) {
  command.add_option("--norm-type", flags.norm_type, "lp: the power p > 0, or inf (default: 2)")
      ->type_name("P");
  command
      .add_option("--sharpness", flags.sharpness,
                  "lse, soft: factor of x in the exponent (default: 10 for lse, 1 for soft)")
      ->type_name("R");
  command.add_option("--p", flags.p, "gem: the power > 0, one or one per channel (default: 3)")
      ->type_name("P[,P]");
  command.add_option("--eps", flags.eps, "gem: smaller elements count as this (default: 1e-6)")
      ->type_name("E");
}

void add_fractional_options(CLI::App& command, PoolFlags& flags) {
  command
      .add_option("--output-ratio", flags.output_ratio,
                  "fractional: output size / input size in (0, 1), instead of --output-size")
      ->type_name("R[,R]");
  CLI::Option* seed = command.add_option("--seed", flags.seed,
                                         "fractional: places the windows, an integer >= 0 (default: 0)");
  seed->type_name("N");
  command
      .add_option(
          "--samples", flags.samples,
          "fractional: .npy of [N, C, 2 or 3] in [0, 1) that places the windows instead, in the dtype of "
          "the input, PyTorch's _random_samples")
      ->type_name("FILE")
      ->excludes(seed);
}

}  // namespace

void add_pool(CLI::App& app, int& /*exit_code*/) {
  auto flags = std::make_shared<PoolFlags>();
  CLI::App* command = app.add_subcommand("pool", "Pool a NumPy array or an image");
  command
      ->add_option("op", flags->op, "Name of the op, for example max_pool2d; `cenote info --ops` lists all")
      ->required()
      ->type_name("OP");
  command
      ->add_option("in", flags->input, "Input: .npy (f32, f64, f16, integers) or .png (8 bits per channel)")
      ->required()
      ->type_name("FILE");
  command->add_option("out", flags->output, "Output: .npy or .png; may be the input")
      ->required()
      ->type_name("FILE");
  add_window_options(*command, *flags);
  add_quantization_options(*command, *flags);
  add_smooth_options(*command, *flags);
  add_fractional_options(*command, *flags);
  add_dims(*command, "--output-size", flags->output_size,
           "adaptive: output size (7 or 7,5); -1 keeps an axis. fractional: the same without -1. max_unpool: "
           "other "
           "than the default");
  command
      ->add_option("--indices", flags->indices,
                   "max, min, median, mode, fractional: also write where each element was, as i64 .npy; "
                   "max_unpool: read "
                   "it from there")
      ->type_name("FILE");
  const std::map<std::string, IndexOrder> index_orders = {
      {"plane", IndexOrder::kPlane},
      {"tensor", IndexOrder::kTensor},
      {"tensor-column-major", IndexOrder::kTensorColumnMajor}};
  command
      ->add_option(
          "--index-order", flags->index_order,
          "What --indices count: plane (positions in the plane of the channel, as PyTorch), tensor or "
          "tensor-column-major (in the whole array, ONNX's storage_order 0 and 1) (default: plane)")
      ->transform(CLI::CheckedTransformer(index_orders).description(""))
      ->type_name("NAME");
  command->footer(
      "Arrays are [C, spatial...] or [N, C, spatial...]; images are [C, H, W] with values 0 to 255.\n"
      "Images are pooled as f32. A .png output is rounded to the nearest integer and clamped.\n\n"
      "Examples:\n"
      "  cenote pool max_pool2d photo.png half.png --kernel 3 --stride 2 --padding 1\n"
      "  cenote pool avg_pool2d x.npy y.npy --kernel 2,3 --count-include-pad false\n"
      "  cenote pool adaptive_avg_pool2d x.npy y.npy --output-size 7\n"
      "  cenote pool global_max_pool2d x.npy y.npy --indices where.npy\n"
      "  cenote pool lp_pool2d x.npy y.npy --kernel 2 --norm-type 3\n"
      "  cenote pool avg_pool2d bytes.npy y.npy --kernel 2 --x-scale 0.1 --x-zero-point 3 --y-scale 0.2\n"
      "  cenote pool max_unpool2d y.npy x.npy --kernel 2 --indices where.npy\n"
      "  cenote pool fractional_max_pool2d x.npy y.npy --kernel 2 --output-ratio 0.7 --seed 1");
  command->callback([command, flags] { run_pool(*command, *flags); });
}

}  // namespace cenote::cli
