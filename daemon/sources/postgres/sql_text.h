// SQL as text: names and strings as a person, or the server, reads them. Pure.
#pragma once

#include <string>
#include <string_view>

namespace evictd {

// 'it''s'; with a backslash in it E'...', which reads the same whatever standard_conforming_strings says.
std::string quoted_text(std::string_view text);
// "My-Pub", always in quotes: for statements that we send.
std::string quoted_name(std::string_view name);
// For a person: without the quotes where none are needed.
std::string shown_name(std::string_view name);

}  // namespace evictd
