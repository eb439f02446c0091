// Files that a library opens by their names.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>

namespace evictd {

inline constexpr std::string_view kSpecialFileHint = "it is read again at each connection, and must not keep evictd waiting: write it to a file";

// Why `file` must not be opened: at a pipe or a terminal whoever opens or reads it waits, perhaps for ever. Of one that is not there
// nothing is said: who opens it does.
inline std::optional<std::string> why_not_to_open(const std::string& file) {
  struct stat facts {};
  if (::stat(file.c_str(), &facts) != 0 || S_ISREG(facts.st_mode) || S_ISDIR(facts.st_mode) || file == "/dev/null") return std::nullopt;
  return "expected a file, got a pipe, device or socket";
}

}  // namespace evictd
