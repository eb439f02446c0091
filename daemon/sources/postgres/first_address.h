// Which of the addresses of a host's name libpq tries first: the one that was followed. The others may be an old primary's, which can be
// written to as well. Shared with the threads that look names up.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/net/name_lookup.h"
#include "daemon/sources/postgres/conninfo.h"

namespace evictd {

class FirstAddress {
 public:
  // `server`: one host. Without an address, as of a socket, there is none to choose.
  void is(const Conninfo& server) {
    const std::lock_guard lock(state_->mutex);
    state_->host = server.get("host");
    state_->address = server.get("hostaddr");
  }

  // The system's, in this order.
  NameLookup::Resolver resolver() const {
    return [state = state_](const std::string& host) {
      auto addresses = NameLookup::system_resolver(host);
      const std::lock_guard lock(state->mutex);
      if (addresses && host == state->host) {
        std::stable_partition(addresses->begin(), addresses->end(), [&](const std::string& address) { return address == state->address; });
      }
      return addresses;
    };
  }

 private:
  struct State {
    std::mutex mutex;
    std::string host, address;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace evictd
