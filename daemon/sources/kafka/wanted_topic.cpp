#include "daemon/sources/kafka/wanted_topic.h"

#include <fmt/format.h>

#include "daemon/sources/kafka/envelope.h"

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

bool is_control_topic(const std::string& topic, const std::set<std::string>& tables) {
  if (tables.contains(EnvelopeDecoder::table_of_topic(topic))) return false;
  return topic.starts_with("__") || topic.ends_with(".transaction") || topic.ends_with(".message");
}

}  // namespace evictd
