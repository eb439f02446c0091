// A finding: one thing `evictd check` has to say about the configuration, the database, Redis or Kafka.
#pragma once

#include <string>
#include <vector>

namespace evictd {

enum class Severity { kError, kWarning, kInfo };  // kError: `run` would refuse, or lose invalidations

struct Finding {
  std::string id;      // "PG015": stable, documented in docs/operations.md
  Severity severity = Severity::kError;
  std::string object;  // what it is about: "public.products", "slot 'evictd'", "rules.yaml:14:5"
  std::string cause;   // one line: what was expected, what was found
  std::string fix;     // one line: the statement or setting that helps; may be empty for kInfo
  // A server did not answer: perhaps only now, while the rest of the configuration may be right.
  bool is_unreachable = false;
};

using Findings = std::vector<Finding>;

}  // namespace evictd
