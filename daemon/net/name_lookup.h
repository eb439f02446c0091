// Looks up the addresses of a host name in a short-lived thread, so that a slow resolver never stops the loop. For
// the rooms that connect by themselves. One thread calls everything here; the lookup's own thread may outlive this
// object.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/base/waiting.h"
#include "mapping/error.h"

namespace evictd {

class NameLookup {
 public:
  // The numeric addresses of a host, in the order in which they should be tried. May block; called from another
  // thread.
  using Resolver = std::function<Result<std::vector<std::string>>(const std::string& host)>;

  // Begins; what is a numeric address already is done at once, without a thread.
  explicit NameLookup(std::string host, const Resolver& resolver = system_resolver);

  const std::string& host() const;
  bool is_done() const;
  // REQUIRES: is_done(). Never an empty list.
  const Result<std::vector<std::string>>& addresses() const;
  void wait_for(Waiting& waiting) const;

  static bool is_numeric(const std::string& host);
  static Result<std::vector<std::string>> system_resolver(const std::string& host);

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the thread
};

}  // namespace evictd
