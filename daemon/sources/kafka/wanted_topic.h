// One entry of 'topics': a topic's name, or a POSIX extended regular expression that begins with '^' (as librdkafka
// takes them, INTRODUCTION.md, "Topic name patterns"). Pure.
#pragma once

#include <regex.h>

#include <memory>
#include <set>
#include <string>

#include "mapping/error.h"

namespace evictd {

class WantedTopic {
 public:
  // kUsage on a pattern that cannot be read.
  static Result<WantedTopic> parse(const std::string& text);

  bool is_pattern() const { return pattern_ != nullptr; }
  bool matches(const std::string& topic) const;

 private:
  struct Freed {
    void operator()(regex_t* pattern) const;
  };
  std::string text_;
  std::unique_ptr<regex_t, Freed> pattern_;
};

// Debezium's heartbeats, transaction markers and messages: matched by patterns, of no rule's concern. A table may be
// called 'message' or 'transaction' as well: the topic of one in `tables`, those of the rules, is none of them.
bool is_control_topic(const std::string& topic, const std::set<std::string>& tables);

}  // namespace evictd
