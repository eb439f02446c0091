// Names of keys that are in a Redis now, for `evictd init`. Blocks; reads names only.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "daemon/sinks/redis/redis_sink.h"
#include "mapping/error.h"

namespace evictd {

// At most about `most` of them; evictd's own are left out.
Result<std::vector<std::string>> sample_keys(const RedisOptions& options, std::size_t most);

// The address without its password: "redis://user:${REDIS_PASSWORD}@host:6379/0". `had_password` says whether there was one.
Result<std::string> redis_url_without_password(const std::string& url, bool& had_password);

}  // namespace evictd
