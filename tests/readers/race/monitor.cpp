#include "tests/readers/race/monitor.h"

#include <charconv>

#include "tests/readers/race/clients.h"

namespace evictd::race {
namespace {

constexpr std::string_view kKey = "item:";
constexpr std::string_view kEnd = "monitor:end";

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// The quoted words of a line. Escapes stay as they are: no word of ours has any.
void split(std::string_view line, std::vector<std::string_view>& words) {
  words.clear();
  std::size_t at = 0;
  while ((at = line.find('"', at)) != std::string_view::npos) {
    const std::size_t begin = ++at;
    while (at < line.size() && line[at] != '"') at += line[at] == '\\' ? 2 : 1;
    if (at >= line.size()) return;
    words.push_back(line.substr(begin, at - begin));
    ++at;
  }
}

bool is(std::string_view word, std::string_view upper) {
  if (word.size() != upper.size()) return false;
  for (std::size_t i = 0; i < word.size(); ++i) {
    if ((word[i] & ~0x20) != upper[i]) return false;
  }
  return true;
}

}  // namespace

void MonitorParser::take(std::string_view line) {
  const std::size_t dot = line.find('.');
  const std::size_t open = line.find('[');
  const std::size_t close = line.find(']');
  if (dot == std::string_view::npos || close == std::string_view::npos) return;
  const std::int64_t time_us = static_cast<std::int64_t>(number(line.substr(0, dot)) * 1'000'000 +
                                                         number(line.substr(dot + 1, 6)));
  const bool by_script = line.substr(open, close - open).find("lua") != std::string_view::npos;
  if (!by_script && in_order_) {
    in_order_ = false;
    events.push_back({Event::Kind::kExecuted, 0, 0, time_us});
  }
  const std::string_view rest = line.substr(close + 1);
  // Most lines are about something else: do not split them.
  if (rest.find("\"item:") == std::string_view::npos || rest.find("\"FCALL\"") != std::string_view::npos) return;
  split(rest, words_);
  if (is(words_[0], "EVALSHA") || is(words_[0], "EVAL")) {
    take_order(time_us);
  } else if (is(words_[0], "SET") && words_[1].starts_with(kKey)) {
    events.push_back({Event::Kind::kStored, static_cast<std::uint32_t>(number(words_[1].substr(5))),
                      number(words_[2]), time_us});
  } else if (is(words_[0], "UNLINK")) {
    for (std::size_t i = 1; i < words_.size(); ++i) {
      if (!words_[i].starts_with(kKey)) continue;
      events.push_back({Event::Kind::kDeleted,
                        static_cast<std::uint32_t>(number(words_[i].substr(5))), 0, time_us});
    }
  }
}

// EVALSHA sha 2n key ... marker ... epoch lifetime flags trust_since tokens (for all, or for each key)
void MonitorParser::take_order(std::int64_t time_us) {
  const std::size_t keys = number(words_[2]);
  const std::size_t n = keys / 2;
  const std::size_t first_tokens = 3 + keys + 4;
  if (n == 0 || first_tokens >= words_.size() || !words_[3].starts_with(kKey)) return;
  if (words_[8] == "AGE") return;  // a fill of evictd's own (`refresh:`), which is heard by its SET
  const bool shared = words_.size() == first_tokens + 1;
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::uint32_t>(number(words_[3 + i].substr(5)));
    std::string_view tokens = words_[first_tokens + (shared ? 0 : i)];
    while (!tokens.empty()) {
      events.push_back({Event::Kind::kOrdered, row, number(tokens), time_us});
      const std::size_t comma = tokens.find(',');
      tokens = comma == std::string_view::npos ? std::string_view() : tokens.substr(comma + 1);
    }
  }
  in_order_ = true;
}

void Monitor::begin() {
  thread_ = std::thread([this] { listen(); });
  while (!listening_) std::this_thread::yield();
}

void Monitor::finish() {
  Redis redis(port_);
  redis.command({"ECHO", std::string(kEnd)});
  end_us_ = now_us();
  thread_.join();
}

void Monitor::listen() {
  Redis redis(port_);
  redis.command({"MONITOR"});
  listening_ = true;
  while (true) {
    const Reply line = redis.next();
    if (line.text.find(kEnd) != std::string::npos) return;
    parser_.take(line.text);
  }
}

}  // namespace evictd::race
