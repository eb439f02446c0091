// How a client's time ends: found inside one of its callbacks, carried out at the end of the turn. Of several reasons the first counts, and
// what ends evictd before what begins anew. Pure.
//
// Owned by the source, which is on the loop thread.
#pragma once

#include <optional>
#include <utility>

#include "mapping/error.h"

namespace evictd {

class Ending {
 public:
  // Another client begins anew where everything is acknowledged.
  void reconnects(Error why) {
    if (!disconnect_) disconnect_ = std::move(why);
  }
  // Likewise, by order from outside: no other reason is told.
  void restarts(Error why) { disconnect_ = std::move(why); }
  // evictd ends.
  void fails(Error why) {
    if (!failure_) failure_ = std::move(why);
  }

  bool is_due() const { return disconnect_ || failure_; }
  const std::optional<Error>& failure() const { return failure_; }
  // Why to reconnect, once; none where evictd ends.
  std::optional<Error> take_disconnect() { return failure_ ? std::nullopt : std::exchange(disconnect_, std::nullopt); }

 private:
  std::optional<Error> disconnect_;
  std::optional<Error> failure_;
};

}  // namespace evictd
