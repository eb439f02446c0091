// One entry of 'topics': a topic's name, or a POSIX extended regular expression that begins with '^' (as librdkafka
// takes them, INTRODUCTION.md, "Topic name patterns"). Pure.
#pragma once

#include <regex.h>

#include <memory>
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

}  // namespace evictd
