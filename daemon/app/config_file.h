// What config.cpp does to a file's tree before it reads the settings: ${VAR} from the environment.
#pragma once

#include "daemon/app/config.h"
#include "mapping/yaml.h"

namespace evictd {

enum class Expanded : std::uint8_t {
  kSecret,  // a value that held a variable must not be shown: a password may have come with it
  kShown,   // of rules: what they say is in messages and metrics anyway
};

// Replaces ${NAME} in every text below `node`, except under the setting `except`; "$${" is a
// literal "${". An unset variable or a malformed ${...} is a placed error.
Result<void> expand_variables(YamlNode& node, const Environment& environment, std::string_view except,
                              Expanded expanded = Expanded::kSecret);

}  // namespace evictd
