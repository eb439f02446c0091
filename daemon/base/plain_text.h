// Text that may come from outside (a server's message, a name), made fit for a log, a terminal and a page of plain text.
#pragma once

#include <string>
#include <string_view>

namespace evictd {

// One line of valid UTF-8 that steers nothing: control characters become blanks; bytes that are not UTF-8, C1 controls and
// characters that turn the direction of writing become '?'.
std::string plain_line(std::string_view text);

}  // namespace evictd
