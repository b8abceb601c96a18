// The few HTML pieces that the report is made of. Whatever text goes in is escaped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cenote::network {

/// Text with & < > " ' replaced, safe in elements and in quoted attributes.
std::string escape_html(std::string_view text);

std::string base64(std::string_view bytes);

/// <img> with the bytes inside the page.
std::string inline_image(std::string_view bytes, std::string_view media_type,
                         std::string_view alternative_text);

/// A table of text; columns after the first `text_columns` are aligned to the right.
std::string html_table(const std::vector<std::string>& header,
                       const std::vector<std::vector<std::string>>& rows, std::size_t text_columns);

/// "1,204,224"
std::string with_thousands(std::int64_t value);

}  // namespace cenote::network
