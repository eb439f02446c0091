// The manual page and the completion, made from the help texts and the parser's options, so that they cannot differ. Pure.
#pragma once

#include <string>
#include <string_view>

namespace evictd {

// evictd.1, in troff's man macros.
std::string manual_page(std::string_view version);

// A script for bash-completion.
std::string bash_completion();

}  // namespace evictd
