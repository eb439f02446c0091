// Kafka Connect's REST interface, as far as `evictd check` asks it: the settings of the connectors.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "mapping/error.h"

namespace evictd {

// Connector -> setting -> value. `url`: "http://host:port"; blocks, for a few seconds at most.
using ConnectorSettings = std::map<std::string, std::map<std::string, std::string>>;
Result<ConnectorSettings> read_connectors(std::string_view url);

// From the body of GET /connectors?expand=info.
Result<ConnectorSettings> parse_connectors(std::string_view json);

}  // namespace evictd
