// The Redis key of a witness (witness.h). On a cluster each master has one of its own, with a hash tag behind the name.
#pragma once

#include <string>

namespace evictd {

inline std::string witness_key(const std::string& record_name) { return "evictd:witness:" + record_name; }

}  // namespace evictd
