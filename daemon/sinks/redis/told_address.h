// What to say of an address that is not the configuration's but others' word, and cannot be reached.
#pragma once

#include <string_view>

#include "mapping/error.h"

namespace evictd {

// Of a name that cannot be looked up, of whoever told it.
inline constexpr std::string_view kHostHint = "look at the host in 'redis: url:'";
inline constexpr std::string_view kSentinelsAddressHint =
    "start it, or let a replica take over; where it runs, but cannot be reached from here by this address, which the Sentinels tell: "
    "'replica-announce-ip' there, or 'sentinel monitor', gives another";
inline constexpr std::string_view kNodesAddressHint =
    "start it, or let a replica take over; where it runs, but cannot be reached from here by this address, which the cluster's nodes tell: "
    "'cluster-announce-ip', 'cluster-announce-port' or 'cluster-announce-hostname' gives another";

inline void tell_whose_address(Error& error, std::string_view hint) {
  if (error.hint.empty() || error.hint == kHostHint) error.hint = hint;
}

}  // namespace evictd
