// The manual page and the completion, made from the help texts and the parser's options, so that they cannot differ. Pure.
#pragma once

#include <string>
#include <string_view>

namespace evictd {

// evictd.1, in troff's man macros.
std::string manual_page(std::string_view version);

// Scripts that complete the command line: for bash-completion, for zsh's compinit (`_evictd`), for fish.
std::string bash_completion();
std::string zsh_completion();
std::string fish_completion();

}  // namespace evictd
