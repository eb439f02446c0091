// Our own logical messages through the stream (pg_logical_emit_message, PostgreSQL manual, "Generic WAL Functions" and "Replication
// Management Functions"): when one is due, which text it has, and which one that comes back is news. They show that the way through the
// server is open, and how long it is, when nobody writes; and one that does not come although the stream says to be past it shows that the
// stream leaves out what was committed. Pure: the caller emits them.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/base/clock.h"
#include "daemon/sources/postgres/lsn.h"
#include "daemon/sources/postgres/recurring.h"
#include "mapping/error.h"

namespace evictd {

class Heartbeat {
 public:
  static constexpr std::string_view kPrefix = "evictd";
  // After a right that was refused.
  static constexpr std::chrono::minutes kRefused{5};
  static constexpr std::string_view kMissing = "the stream leaves out what was committed: evictd's own message did not come back";

  // `token`: no other process has it. `interval`: between two; 0: never.
  Heartbeat(std::string token, std::chrono::milliseconds interval) : token_(std::move(token)), interval_(interval) {}

  // An answer that is not there yet never comes.
  void connecting() { next_.forget(); }
  // What comes again of those emitted until now is no news.
  void streaming(SteadyTime now);

  SteadyTime due() const { return next_.due(); }
  // -> the content of the message to be emitted now. `can`: this server and this connection have them.
  std::optional<std::string> beats(bool can, SteadyTime now);
  // Whether it was emitted, and where the WAL was once it had committed. -> why it cannot be, where that is a right that was taken away:
  // the stream is as good without, only an idle database is then not measured.
  std::optional<std::string> emitted(const Result<Lsn>& answer, SteadyTime now);
  // A logical message in the stream, of anybody. -> when it was sent, if it is ours and news; min(): too long ago to know.
  std::optional<SteadyTime> news(std::string_view prefix, std::string_view content);
  // Everything up to `received` has come, says the stream. -> whether one of our messages lies before there and has not: other changes may
  // be missing as well. Once for each such message; a problem until another one comes.
  bool misses(Lsn received);

  // Why readiness is refused; empty: it is not.
  std::string_view problem() const { return is_missing_ ? kMissing : problem_; }

 private:
  std::string token_;
  std::chrono::milliseconds interval_;
  Recurring next_;
  std::uint64_t count_ = 0;
  std::uint64_t before_ = 0;  // this connection
  std::array<SteadyTime, 64> sent_at_{};  // the latest, by number modulo their count
  struct Awaited {
    std::uint64_t number;
    Lsn before;  // the WAL after its commit
  };
  std::optional<Awaited> awaited_;  // has not come
  std::uint64_t came_ = 0;          // the latest that came
  bool is_missing_ = false;
  std::string problem_;
};

}  // namespace evictd
