// One entry of 'topics': a topic's name, or a POSIX extended regular expression that begins with '^' (as librdkafka
// takes them, INTRODUCTION.md, "Topic name patterns"). Pure.
#pragma once

#include <regex.h>

#include <memory>
#include <set>
#include <string>
#include <string_view>

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

// Whether Debezium names the topic of this table, "schema.table", so: "prefix.schema.table", with '_' for what Kafka does
// not allow in a name. Dots it does allow: those of a table's own name are no borders.
bool is_topic_of(std::string_view topic, std::string_view table);
// The one of `tables` that the topic is named after; of several the longest; empty: none.
std::string table_named_by(std::string_view topic, const std::set<std::string>& tables);

// Debezium's heartbeats, transaction markers and messages: matched by patterns, of no rule's concern. A table may be
// called 'message' or 'transaction' as well: the topic of one in `tables`, those of the rules, is none of them.
bool is_control_topic(const std::string& topic, const std::set<std::string>& tables);

}  // namespace evictd
