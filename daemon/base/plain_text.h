// Text that may come from outside (a server's message, a name), made fit for a log, a terminal and a page of plain text.
#pragma once

#include <string>
#include <string_view>

namespace evictd {

// One line of valid UTF-8 that steers nothing: control characters become blanks; bytes that are not UTF-8, C1 controls and
// characters that turn the direction of writing become '?'.
std::string plain_line(std::string_view text);
// Each line of it a plain_line().
std::string plain_lines(std::string_view text);
// The same characters as escapes such as \x1b, for texts whose bytes matter: keys and values.
std::string printable_text(std::string_view text);

}  // namespace evictd
