// Escaping, base64 (RFC 4648) and tables.
#include "network/report/html.h"

#include <fmt/format.h>

namespace cenote::network {

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      text += i + k <= bytes.size() ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text;
}

std::string inline_image(std::string_view bytes, std::string_view media_type,
                         std::string_view alternative_text) {
  std::string tag = "<img alt=\"" + escape_html(alternative_text) + "\" src=\"data:";
  tag += media_type;
  return tag + ";base64," + base64(bytes) + "\">";
}

std::string html_table(const std::vector<std::string>& header,
                       const std::vector<std::vector<std::string>>& rows, std::size_t text_columns) {
  const auto cell = [&](const char* name, const std::string& text, std::size_t column) {
    const char* attribute = column < text_columns ? "" : " class=\"number\"";
    return fmt::format("<{0}{1}>{2}</{0}>", name, attribute, escape_html(text));
  };
  std::string html = "<table>\n<thead><tr>";
  for (std::size_t i = 0; i < header.size(); ++i) html += cell("th", header[i], i);
  html += "</tr></thead>\n<tbody>\n";
  for (const auto& row : rows) {
    html += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) html += cell("td", row[i], i);
    html += "</tr>\n";
  }
  return html + "</tbody>\n</table>\n";
}

std::string with_thousands(std::int64_t value) {
  std::string digits = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, 1, ',');
  }
  return digits;
}

}  // namespace cenote::network
