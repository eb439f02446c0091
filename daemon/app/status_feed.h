// What flows to the status page while somebody looks: server-sent events with the state, each second, and with the rules,
// what happened lately and new samples when there are any. Pure; http_server.h sends it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "daemon/app/status.h"

namespace evictd {

// Rules beyond are counted on the page, not listed.
inline constexpr std::size_t kFeedRulesMax = 500;

// As of one moment, the same for all who look. JSON.
struct StatusFeed {
  std::string state;
  std::string rules;   // empty before the first turn of the loop
  std::string events;
  std::shared_ptr<const Status> status;
};
StatusFeed make_status_feed(const StatusBoard& board, Now now);

// One who looks.
class StatusViewer {
 public:
  // The events that are news to this viewer; the first call has everything.
  std::string next(const StatusFeed& feed);

 private:
  std::uint64_t last_sample_ = 0;
  std::string rules_;
  std::string events_;
};

// What a person should look into, or empty: "never hit although rows change ...".
std::string rule_note(const RuleActivity& rule);

}  // namespace evictd
