// What `evictd check` can find out about a service: whether it answers, and whether the credential may purge. Blocks.
#pragma once

#include "daemon/base/finding.h"
#include "daemon/sinks/http/http_sink.h"

namespace evictd {

// `object`: the place of the cache in the configuration.
Findings check_http(const HttpSinkOptions& options, const std::string& object);

}  // namespace evictd
