#include "daemon/sources/kafka/wanted_topic.h"

#include <fmt/format.h>

#include <algorithm>


namespace evictd {

void WantedTopic::Freed::operator()(regex_t* pattern) const {
  regfree(pattern);
  delete pattern;
}

Result<WantedTopic> WantedTopic::parse(const std::string& text) {
  WantedTopic wanted;
  wanted.text_ = text;
  if (!text.starts_with('^')) return wanted;
  auto compiled = std::make_unique<regex_t>();
  if (regcomp(compiled.get(), text.c_str(), REG_EXTENDED | REG_NOSUB) != 0) {
    return fail(ErrorKind::kUsage, fmt::format("expected a regular expression, got '{}'", text),
                "topics that begin with '^' are POSIX extended regular expressions");
  }
  wanted.pattern_.reset(compiled.release());
  return wanted;
}

bool WantedTopic::matches(const std::string& topic) const {
  return is_pattern() ? regexec(pattern_.get(), topic.c_str(), 0, nullptr, 0) == 0 : topic == text_;
}

bool is_topic_of(std::string_view topic, std::string_view table) {
  if (topic.size() < table.size() + 2 || topic[topic.size() - table.size() - 1] != '.') return false;
  topic.remove_prefix(topic.size() - table.size());
  return std::equal(topic.begin(), topic.end(), table.begin(), [](char in_topic, char c) {
    const bool is_allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                            c == '-' || c == '_';
    return in_topic == (is_allowed ? c : '_');
  });
}

std::string table_named_by(std::string_view topic, const std::set<std::string>& tables) {
  std::string longest;
  for (const std::string& table : tables) {
    if (table.size() > longest.size() && is_topic_of(topic, table)) longest = table;
  }
  return longest;
}

bool is_control_topic(const std::string& topic, const std::set<std::string>& tables) {
  if (!table_named_by(topic, tables).empty()) return false;
  return topic.starts_with("__") || topic.ends_with(".transaction") || topic.ends_with(".message");
}

}  // namespace evictd
