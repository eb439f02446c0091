// Any bytes from a peer that calls itself Redis: the first byte says in pieces of what length they come, the others are
// replies. However they are cut they must read the same, nothing more may be kept than the limits say, and whatever comes
// out is given to everything that judges a reply.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/replies.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/semantic.h"
#include "daemon/sinks/redis/session.h"
#include "daemon/sinks/redis/topology/sentinel.h"
#include "daemon/sinks/redis/topology/slot_map.h"

namespace {

using namespace evictd;

constexpr ReplyLimits kLimits{.reply_bytes = 4096, .element_bytes = 64, .depth = 4};

void require(bool holds) {
  if (!holds) std::abort();
}

bool same(const Reply& left, const Reply& right) {
  if (left.kind != right.kind || left.integer != right.integer || left.text != right.text || left.elements.size() != right.elements.size()) {
    return false;
  }
  for (std::size_t i = 0; i < left.elements.size(); ++i) {
    if (!same(left.elements[i], right.elements[i])) return false;
  }
  return true;
}

std::size_t bytes_of(const Reply& reply) {
  std::size_t bytes = reply.text.size();
  for (const Reply& element : reply.elements) bytes += sizeof(Reply) + bytes_of(element);
  return bytes;
}

struct Read {
  std::vector<Reply> replies;
  bool is_broken = false;
};

Read read(std::string_view bytes, std::size_t piece) {
  ReplyReader reader(kLimits);
  Read result;
  for (std::size_t at = 0; at < bytes.size() && !result.is_broken; at += piece) {
    reader.feed(bytes.substr(at, piece));
    while (true) {
      Result<std::optional<Reply>> next = reader.next();
      if (!next) {
        require(next.error().kind == ErrorKind::kConnection && !next.error().text.empty());
        result.is_broken = true;
        break;
      }
      if (!*next) break;
      require(bytes_of(**next) <= kLimits.reply_bytes + sizeof(Reply));
      result.replies.push_back(std::move(**next));
    }
  }
  return result;
}

void judge(const Reply& reply) {
  for (const std::size_t keys : {std::size_t{0}, std::size_t{1}, std::size_t{3}}) {
    for (const bool with_hits : {false, true}) {
      if (const auto counts = read_invalidate(reply, keys, with_hits)) {
        require(counts->keys <= keys && counts->deleted + counts->kept + counts->replayed <= counts->keys);
        for (const std::uint32_t hit : counts->hits) require(hit < keys);
      }
      if (const auto scattered = read_scattered(reply, keys, with_hits)) {
        for (const std::uint32_t each : scattered->elsewhere) require(each < keys);
      }
    }
    if (const auto walk = read_walk(reply, keys)) {
      for (const std::uint32_t each : walk->finished) require(each < keys);
    }
  }
  for (const bool with_scores : {false, true}) {
    if (const auto scan = read_scan(Reply(reply), with_scores)) require(!scan->cursor.empty());
    read_similar(reply, with_scores);
    read_search(reply, with_scores);
  }
  if (const auto time = read_time(reply)) require(time->count() >= 0);
  read_counts(reply);
  if (const auto count = read_count(reply, 7)) require(*count <= 7);
  read_vector_set(reply);
  read_search_index(reply);
  if (const auto map = SlotMap::read(reply, {"asked", 7000})) {
    for (const HostPort& master : map->masters()) require(map->slots_of(master).any());
  }
  read_cluster_state(reply);
  for (const Reply& element : reply.elements) read_sentinel_answer(reply, element);
  read_sentinel_answer(reply, reply);
  parse_server_info(reply.text);
  own_slots(reply.text);
  read_redirect(reply.text);
  classify_redis_error(reply.text);
  require(!redis_error(reply.text).text.empty());
  is_removal_unsafe(reply.text);
  if (const auto slots = slots_from_ranges(reply.text)) require(slots_from_ranges(ranges_text(*slots)) == slots);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Read whole = read(bytes, bytes.size() + 1);
  const Read cut = read(bytes, 1 + data[0] % 32);
  require(whole.is_broken == cut.is_broken && whole.replies.size() == cut.replies.size());
  for (std::size_t i = 0; i < whole.replies.size(); ++i) {
    require(same(whole.replies[i], cut.replies[i]));
    judge(whole.replies[i]);
  }
  return 0;
}
