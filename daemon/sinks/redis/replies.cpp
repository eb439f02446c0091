#include "daemon/sinks/redis/replies.h"

#include <array>

#include "daemon/base/text.h"

namespace evictd {
namespace {

constexpr std::int64_t kSecondsMax = 1LL << 40;  // of a clock; its milliseconds still fit

bool is_array(const Reply& reply) { return reply.kind == Reply::Kind::kArray; }

template <typename Number>
std::optional<Number> number_of_text(const Reply& reply) {
  Number number{};
  if (reply.kind != Reply::Kind::kText || !read_number(reply.text, number)) return std::nullopt;
  return number;
}

}  // namespace

std::optional<std::uint64_t> read_count(const Reply& reply, std::uint64_t most) {
  if (reply.kind != Reply::Kind::kInteger || reply.integer < 0) return std::nullopt;
  const auto count = static_cast<std::uint64_t>(reply.integer);
  if (count > most) return std::nullopt;
  return count;
}

bool is_text_or_nil(const Reply& reply) {
  return reply.kind == Reply::Kind::kText || reply.kind == Reply::Kind::kNil;
}

namespace {

struct Part {
  const Reply& reply;
  std::size_t keys;
};

// What a reply says, and about how many of the `keys` keys.
std::optional<Part> part_of(const Reply& reply, std::size_t keys) {
  if (!is_array(reply) || reply.elements.empty() || !is_array(reply.elements[0])) return Part{reply, keys};
  if (reply.elements.size() != 2 || keys == 0) return std::nullopt;
  const auto done = read_count(reply.elements[1], keys - 1);
  // None at all would be asked for for ever.
  if (!done || *done == 0) return std::nullopt;
  return Part{reply.elements[0], *done};
}

}  // namespace

std::optional<InvalidateReply> read_invalidate(const Reply& whole, std::size_t asked, bool with_hits) {
  constexpr std::size_t kCounts = 4;
  const auto part = part_of(whole, asked);
  if (!part) return std::nullopt;
  const auto& [reply, keys] = *part;
  if (!is_array(reply) || reply.elements.size() < kCounts) return std::nullopt;
  std::array<std::uint64_t, kCounts> counts{};
  for (std::size_t i = 0; i < kCounts; ++i) {
    const auto count = read_count(reply.elements[i], keys);
    if (!count) return std::nullopt;
    counts[i] = *count;
  }
  InvalidateReply read{counts[0], counts[1], counts[2], counts[3], {}, keys};
  // Each at most `keys`: no sum wraps around.
  if (read.deleted + read.kept + read.replayed > keys) return std::nullopt;
  if (read.refused > keys - read.kept - read.replayed) return std::nullopt;
  if (reply.elements.size() != kCounts + (with_hits ? read.deleted : 0)) return std::nullopt;
  for (std::size_t i = kCounts; i < reply.elements.size(); ++i) {
    const auto number = read_count(reply.elements[i], keys);
    if (!number || *number == 0 || (!read.hits.empty() && *number - 1 <= read.hits.back())) return std::nullopt;
    read.hits.push_back(static_cast<std::uint32_t>(*number - 1));
  }
  return read;
}

namespace {

// Numbers of keys, from 1, growing.
std::optional<std::vector<std::uint32_t>> read_numbers(const Reply& reply, std::size_t keys) {
  if (!is_array(reply)) return std::nullopt;
  std::vector<std::uint32_t> numbers;
  for (const Reply& element : reply.elements) {
    const auto number = read_count(element, keys);
    if (!number || *number == 0 || (!numbers.empty() && *number - 1 <= numbers.back())) return std::nullopt;
    numbers.push_back(static_cast<std::uint32_t>(*number - 1));
  }
  return numbers;
}

}  // namespace

std::optional<ScatteredReply> read_scattered(const Reply& whole, std::size_t asked, bool with_hits) {
  constexpr std::size_t kCounts = 4;
  const auto part = part_of(whole, asked);
  if (!part) return std::nullopt;
  const auto& [reply, keys] = *part;
  if (!is_array(reply) || reply.elements.size() != kCounts + 2) return std::nullopt;
  auto hits = read_numbers(reply.elements[kCounts], keys);
  auto elsewhere = read_numbers(reply.elements[kCounts + 1], keys);
  if (!hits || !elsewhere) return std::nullopt;
  Reply counts;
  counts.kind = Reply::Kind::kArray;
  counts.elements.assign(reply.elements.begin(), reply.elements.begin() + kCounts);
  auto read = read_invalidate(counts, keys - elsewhere->size());
  if (!read || hits->size() != (with_hits ? read->deleted : 0)) return std::nullopt;
  read->hits = std::move(*hits);
  read->keys = keys;
  return ScatteredReply{std::move(*read), std::move(*elsewhere)};
}

std::optional<WalkReply> read_walk(const Reply& reply, std::size_t markers) {
  constexpr std::size_t kCounts = 2;
  if (!is_array(reply) || reply.elements.size() < kCounts || markers == 0) return std::nullopt;
  const auto finished = read_count(reply.elements[0], 1);
  // Finishing a settle walk writes each marker twice.
  const auto refused = read_count(reply.elements[1], 2 * markers);
  if (!finished || !refused) return std::nullopt;
  WalkReply read{*finished == 1, *refused, {}};
  for (std::size_t i = kCounts; i < reply.elements.size(); ++i) {
    const auto index = read_count(reply.elements[i], markers - 1);
    if (!index || (!read.finished.empty() && *index <= read.finished.back())) return std::nullopt;
    read.finished.push_back(static_cast<std::uint32_t>(*index));
  }
  if (!read.is_finished && read.finished.size() == markers) return std::nullopt;
  return read;
}

std::optional<ScanReply> read_scan(Reply&& reply, bool with_scores) {
  if (!is_array(reply) || reply.elements.size() != 2 || !is_array(reply.elements[1])) return std::nullopt;
  if (!number_of_text<std::uint64_t>(reply.elements[0])) return std::nullopt;
  ScanReply read;
  read.cursor = std::move(reply.elements[0].text);
  std::vector<Reply>& found = reply.elements[1].elements;
  if (with_scores && found.size() % 2 != 0) return std::nullopt;
  for (std::size_t i = 0; i < found.size(); ++i) {
    Reply& name = found[i];
    if (with_scores && i % 2 == 1) {
      if (name.kind != Reply::Kind::kText) return std::nullopt;
    } else if (name.kind == Reply::Kind::kText) {
      read.bytes += name.text.size();
      read.names.push_back(std::move(name.text));
    } else if (name.kind == Reply::Kind::kTooLong) {
      read.bytes += static_cast<std::uint64_t>(name.integer);
      ++read.too_long;
    } else {
      return std::nullopt;
    }
  }
  return read;
}

std::optional<std::chrono::milliseconds> read_time(const Reply& reply) {
  if (!is_array(reply) || reply.elements.size() != 2) return std::nullopt;
  const auto seconds = number_of_text<std::int64_t>(reply.elements[0]);
  const auto microseconds = number_of_text<std::int64_t>(reply.elements[1]);
  if (!seconds || *seconds < 0 || *seconds > kSecondsMax) return std::nullopt;
  if (!microseconds || *microseconds < 0 || *microseconds >= 1'000'000) return std::nullopt;
  return std::chrono::milliseconds(*seconds * 1000 + *microseconds / 1000);
}

std::optional<NamedCounts> read_counts(const Reply& reply) {
  constexpr std::size_t kCountsMax = 64;
  if (!is_array(reply) || reply.elements.size() % 2 != 0 || reply.elements.size() > 2 * kCountsMax) return std::nullopt;
  NamedCounts counts;
  for (std::size_t i = 0; i < reply.elements.size(); i += 2) {
    const Reply& name = reply.elements[i];
    const auto count = read_count(reply.elements[i + 1], INT64_MAX);
    if (name.kind != Reply::Kind::kText || !count) return std::nullopt;
    // It becomes a label of a metric.
    if (name.text.empty() || name.text.size() > 40) return std::nullopt;
    if (name.text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") != std::string::npos) return std::nullopt;
    counts.emplace_back(name.text, *count);
  }
  return counts;
}

}  // namespace evictd
