// Rows of joined tables as they are now, for a command: one question after the other, each waited for (at most as long as a
// lookup may take, lookups.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/interface/lookup.h"
#include "daemon/sources/postgres/conninfo.h"
#include "mapping/error.h"

namespace evictd {

class LiveLookups {
 public:
  // kUsage when the URL cannot be read.
  static Result<std::unique_ptr<LiveLookups>> open(const DatabaseAddress& database, std::shared_ptr<const RuleSet> rules);

  // `values`: as LookupRequest has them.
  LookupAnswer ask(std::uint32_t rule, std::uint32_t lookup, std::vector<std::vector<std::string>> values);

 private:
  LiveLookups(std::unique_ptr<LookupSession> session, std::shared_ptr<const RuleSet> rules)
      : session_(std::move(session)), rules_(std::move(rules)) {}

  std::unique_ptr<LookupSession> session_;
  std::shared_ptr<const RuleSet> rules_;
  std::uint64_t last_number_ = 0;
};

}  // namespace evictd
