// Where a thing stands in a file a person wrote.
#pragma once

#include <string>

namespace evictd {

// Lines and columns count from 1.
struct Place {
  std::string file;
  int line = 0;
  int column = 0;
  std::string to_string() const;  // "rules.yaml:14:5"
};

}  // namespace evictd
