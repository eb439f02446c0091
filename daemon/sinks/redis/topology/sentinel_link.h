// Asks Sentinels for the address of the master, one at a time, without blocking: the socket side of MasterQuest.
//
//   find()  ─► asks one after the other, each within its deadline ─► kFound or kFailed
//   watch() ─► asks one of them each second, for as long as the connection to the master stands: take_moved()
//
// A server that says it is the master may have been replaced while it stood still, and the Sentinel that named it may have been cut off
// together with it. So whoever has connected to it asks again before anything is done there, others first: confirm(), and then find()'s
// states. Whoever could not connect to it asks others first, too: doubt().
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/waiting.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/topology/sentinel.h"
#include "daemon/sinks/redis/transport.h"

namespace evictd {

struct SentinelOptions {
  std::string master_name;
  std::vector<HostPort> sentinels;
  std::string password;  // of the Sentinels; empty: none
  bool tls = false;      // as the master's
  TlsFiles tls_files;
  std::chrono::milliseconds deadline{500};       // of one Sentinel, connection and answer
  std::chrono::milliseconds watch_interval{1000};
};

class SentinelLink {
 public:
  explicit SentinelLink(SentinelOptions options);

  enum class State { kIdle, kAsking, kFound, kFailed, kWatching };
  State state() const { return state_; }

  void find(SteadyTime now);
  void confirm(SteadyTime now);
  void doubt() { quest_.ask_others_first(); }
  void watch(SteadyTime now);
  void stop();
  void step(SteadyTime now);
  void wait_for(Waiting& waiting) const;

  const HostPort& master() const { return quest_.master(); }  // kFound, kWatching
  Error error() const;                                        // kFailed
  // kWatching: for so long that a failover could have passed us by, none of them has told where the master is.
  std::optional<Error> silence(SteadyTime now) const;
  // kWatching: the Sentinels have made another server the master.
  bool take_moved() { return std::exchange(is_moved_, false); }

 private:
  void begin_round(SteadyTime now);
  void ask(SteadyTime now);
  Error with_advice(Error error) const;
  void hang_up();
  Result<bool> move();
  void ended(const SentinelAnswer* answer, std::string why, SteadyTime now);

  SentinelOptions options_;
  MasterQuest quest_;
  State state_ = State::kIdle;
  RedisAddress address_;  // of the Sentinel that is being asked
  Transport transport_;
  bool is_asking_ = false;
  bool is_refused_ = false;  // the last answers wanted another password
  SteadyTime deadline_{};
  SteadyTime next_ask_{};
  SteadyTime heard_at_{};  // kWatching
  std::string output_;
  std::size_t written_ = 0;
  ReplyReader reader_;
  std::vector<Reply> replies_;
  bool is_moved_ = false;
};

}  // namespace evictd
