// The forms of JSON: what its numbers look like, and the one form in which PostgreSQL's jsonb keeps and prints a value.
#pragma once

#include <string_view>

namespace evictd {

// Whether what stands for a number in a JSON text is one: "1.5e3", not "01" or "2024-02-03".
bool has_json_numbers(std::string_view json);

// Whether a compact JSON text (canonical.h) is what a jsonb prints, blanks apart: names sorted by length and bytes, each once; numbers
// without exponents; no escape but where there must be one. REQUIRES: `json` is JSON.
bool is_binary_json(std::string_view json);

}  // namespace evictd
