// What config.cpp does to a file's tree before it reads the settings: ${VAR} from the environment.
#pragma once

#include "daemon/app/config.h"
#include "mapping/yaml.h"

namespace evictd {

// Replaces ${NAME} in every text below `node`, except under the setting `except`; "$${" is a
// literal "${". A value that held a variable becomes secret: a password may have come with it. An
// unset variable or a malformed ${...} is a placed error.
Result<void> expand_variables(YamlNode& node, const Environment& environment,
                              std::string_view except);

}  // namespace evictd
