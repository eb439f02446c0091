#include "daemon/app/key_log.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "daemon/interface/forwarding_sink.h"
#include "mapping/rules.h"
#include "mapping/utf8.h"

namespace evictd {
namespace {

std::string_view verb_of(const Order& order) {
  if (order.target == Target::kCounters) return "raises counter";
  if (order.target == Target::kSemantic) return "asks an index of vectors for";
  if (order.target == Target::kSurrogates) return "purges surrogate key";
  const bool is_tag = order.target == Target::kTags;
  switch (order.act) {
    case Act::kInvalidate:
      return is_tag ? "deletes what tag lists," : "deletes key";
    case Act::kSettle:
      return is_tag ? "deletes once more what tag lists," : "deletes once more key";
    case Act::kRenew:
      return is_tag ? "renews the tombstone of tag" : "renews the tombstone of key";
  }
  return "";
}

class LoggingSink final : public ForwardingSink {
 public:
  LoggingSink(std::unique_ptr<Sink> sink, Log& log, std::string cache) : ForwardingSink(std::move(sink)), log_(log), cache_(std::move(cache)) {}

  void submit(Ticket ticket, const Order& order) override {
    // Patterns have lines of their own, when they have been walked.
    if (order.texts != nullptr && order.rule != nullptr) tell(order);
    ForwardingSink::submit(ticket, order);
  }

 private:
  void tell(const Order& order) {
    const Texts& texts = *order.texts;
    const std::size_t told = std::min(texts.size(), KeyLog::kKeysPerOrderMax);
    for (std::size_t i = 0; i < told; ++i) {
      const std::size_t first = i == 0 ? 0 : texts.items[i - 1].xids_end;
      const std::size_t count = texts.items[i].xids_end - first;
      const std::string xid = count == 0 ? std::string() : fmt::format(", transaction {}", number(texts.xids[first]));
      log_.debug(fmt::format("{} {} '{}' of rule '{}'{}{}", cache_, verb_of(order), printable(texts.text(i)), order.rule->name, xid,
                             count > 1 ? fmt::format(" and {} more", count - 1) : std::string()));
    }
    if (texts.size() > told) log_.debug(fmt::format("{} and {} more of rule '{}'", cache_, texts.size() - told, order.rule->name));
  }

  Log& log_;
  const std::string cache_;
};

}  // namespace

std::unique_ptr<Sink> KeyLog::listening(std::unique_ptr<Sink> sink, Log& log, std::string cache) {
  return std::make_unique<LoggingSink>(std::move(sink), log, std::move(cache));
}

}  // namespace evictd
