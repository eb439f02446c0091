#include "daemon/app/commands/live_lookups.h"

#include <utility>

#include "daemon/app/commands/snapshot_connection.h"
#include "daemon/base/poll.h"

namespace evictd {

Result<std::unique_ptr<LiveLookups>> LiveLookups::open(const DatabaseAddress& database, std::shared_ptr<const RuleSet> rules) {
  Result<std::unique_ptr<LookupSession>> session = make_lookup_session(database);
  if (!session) return tl::unexpected(session.error());
  return std::unique_ptr<LiveLookups>(new LiveLookups(std::move(*session), std::move(rules)));
}

LookupAnswer LiveLookups::ask(std::uint32_t rule, std::uint32_t lookup, std::vector<std::vector<std::string>> values) {
  LookupRequest request;
  request.number = ++last_number_;
  request.rules = rules_;
  request.rule = rule;
  request.lookup = lookup;
  request.values = std::move(values);
  session_->ask(std::move(request), read_clocks());
  while (true) {
    session_->step(read_clocks());
    if (std::optional<LookupAnswer> answer = session_->take()) return std::move(*answer);
    Waiting waiting;
    session_->wait_for(waiting);
    wait_for_any(waiting);
  }
}

}  // namespace evictd
