// Where the master is, by the word of Sentinels: who is asked next, and what an answer is worth. Pure; sentinel_link.h asks.
//
// Sentinels know a master by a name, and number each failover (the configuration epoch). An answer of a lower epoch than one
// that we had is out of date: that Sentinel was cut off. Only when all of them say so, or, while connected, more than half of them
// and none says otherwise, somebody has set them up anew.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/sinks/redis/resp.h"
#include "mapping/error.h"

namespace evictd {

struct HostPort {
  std::string host;
  std::uint16_t port = 0;

  std::string to_string() const;
  friend bool operator==(const HostPort&, const HostPort&) = default;
  friend auto operator<=>(const HostPort&, const HostPort&) = default;
};

inline constexpr std::uint16_t kSentinelPort = 26379;
// "host", "host:port" or "[v6]:port". kUsage on anything else.
Result<HostPort> parse_host_port(std::string_view text, std::uint16_t default_port);

// Of SENTINEL GET-MASTER-ADDR-BY-NAME and SENTINEL MASTER. Nothing when the reply is of another shape; an empty `master`
// when the Sentinel does not know the name.
struct SentinelAnswer {
  std::optional<HostPort> master;
  std::uint64_t epoch = 0;
};
std::optional<SentinelAnswer> read_sentinel_answer(const Reply& address, const Reply& master);

class MasterQuest {
 public:
  // `sentinels` not empty.
  MasterQuest(std::string name, std::vector<HostPort> sentinels) : name_(std::move(name)), sentinels_(std::move(sentinels)) {}

  enum class Next { kFound, kAskNext, kNobodyKnows };

  // A round: each Sentinel is asked once, until one knows. What was found before stays known.
  void begin();
  // A round that confirms what was found: others are asked first. Who names another server without having seen a later failover is passed
  // over, unless more than half of them name it.
  void begin_confirm();
  // What the one that answered last told is doubted: the next round asks it after all others.
  void ask_others_first();
  const HostPort& asked() const { return sentinels_[at_]; }
  Next answered(const SentinelAnswer& answer);
  // It did not answer, or not to the question.
  Next failed(std::string why);

  // After kFound.
  const HostPort& master() const { return *master_; }
  // After kNobodyKnows: what each of them said.
  Error error() const;

  // While a connection to master() stands, one Sentinel after the other is asked again.
  void begin_watch() { heard_.assign(sentinels_.size(), Heard{}); }
  // What the one that was asked says. True when another server is the master, which master() is now: by a failover that came
  // later; or since more than half of the Sentinels name another and none names ours, whatever they count. They were told of
  // another server by hand (SENTINEL REMOVE and MONITOR), and count failovers from the beginning.
  bool is_moved_by(const SentinelAnswer& answer);
  // It did not answer, or not to the question.
  void heard_nothing(std::string why);
  void ask_another() { at_ = (at_ + 1) % sentinels_.size(); }
  // What each of them said when none has told anything of the master the last time it was asked.
  std::optional<Error> silence() const;

 private:
  struct Heard {
    enum class What : std::uint8_t { kNothingYet, kOurs, kAnother, kSilence } what = What::kNothingYet;
    std::string why = {};  // kSilence; kAnother of a round that confirms: whom
  };
  Error error(std::string text, const std::vector<std::string>& reasons) const;

  std::string name_;
  std::vector<HostPort> sentinels_;  // the one that answered last first, as long as nothing is doubted
  std::size_t at_ = 0;
  std::vector<std::string> reasons_;          // of this round
  std::optional<HostPort> master_;
  std::uint64_t epoch_ = 0;                   // of master_
  bool is_confirming_ = false;
  std::optional<SentinelAnswer> out_of_date_; // of this round, the best of them
  std::vector<Heard> heard_;                  // of the watch, or of a round that confirms, by Sentinel
};

}  // namespace evictd
