// The style and the script of the status page, embedded at build from page.css and page.js beside this file.
#pragma once

#include <string_view>

namespace evictd {

extern const std::string_view kPageStyle;
extern const std::string_view kPageScript;

}  // namespace evictd
