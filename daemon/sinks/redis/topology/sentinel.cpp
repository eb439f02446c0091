#include "daemon/sinks/redis/topology/sentinel.h"

#include <algorithm>

#include "daemon/base/text.h"

namespace evictd {

std::string HostPort::to_string() const {
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<HostPort> parse_host_port(std::string_view text, std::uint16_t default_port) {
  HostPort made{{}, default_port};
  std::string_view port;
  const auto wrong = [text] {
    // What has a user may have a password, which no message repeats.
    const bool has_user = text.find('@') != std::string_view::npos;
    return fail(ErrorKind::kUsage, "expected host:port, got " + (has_user ? "one with a user" : "'" + std::string(text.substr(0, 100)) + "'"),
                has_user ? "for example sentinel-1:26379; the password of the Sentinels is 'sentinel_password'" : "for example sentinel-1:26379");
  };
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return wrong();
    made.host = text.substr(1, close - 1);
    port = text.substr(close + 1);
  } else {
    const std::size_t colon = text.find(':');
    made.host = text.substr(0, colon);
    if (colon != std::string_view::npos) port = text.substr(colon);
  }
  const bool has_port = !port.empty();
  if (has_port && (port[0] != ':' || !read_number(port.substr(1), made.port) || made.port == 0)) return wrong();
  if (made.host.empty() || made.host.find_first_of("/@ \t?#") != std::string::npos) return wrong();
  return made;
}

std::optional<SentinelAnswer> read_sentinel_answer(const Reply& address, const Reply& master) {
  SentinelAnswer answer;
  const bool is_unknown = master.is_error() && master.text.starts_with("ERR No such master");
  if (address.kind == Reply::Kind::kNil) return is_unknown ? std::optional(answer) : std::nullopt;
  if (address.kind != Reply::Kind::kArray || address.elements.size() != 2 || master.kind != Reply::Kind::kArray ||
      master.elements.size() % 2 != 0) {
    return std::nullopt;
  }
  HostPort& found = answer.master.emplace();
  found.host = address.elements[0].text;
  if (found.host.empty() || !read_number(std::string_view(address.elements[1].text), found.port) || found.port == 0) return std::nullopt;
  for (std::size_t i = 0; i < master.elements.size(); i += 2) {
    if (master.elements[i].text != "config-epoch") continue;
    if (!read_number(std::string_view(master.elements[i + 1].text), answer.epoch)) return std::nullopt;
    return answer;
  }
  return std::nullopt;
}

void MasterQuest::begin() {
  at_ = 0;
  reasons_.clear();
  out_of_date_.reset();
  is_confirming_ = false;
}

void MasterQuest::begin_confirm() {
  ask_others_first();
  begin();
  is_confirming_ = true;
  heard_.assign(sentinels_.size(), Heard{});
}

void MasterQuest::ask_others_first() { std::rotate(sentinels_.begin(), sentinels_.begin() + 1, sentinels_.end()); }

MasterQuest::Next MasterQuest::answered(const SentinelAnswer& answer) {
  if (!answer.master) return failed("does not know a master '" + name_ + "'");
  if (master_ && answer.epoch < epoch_) {
    if (!out_of_date_ || out_of_date_->epoch < answer.epoch) out_of_date_ = answer;
    return failed("tells of '" + answer.master->to_string() + "' from before the last failover");
  }
  if (is_confirming_ && answer.epoch == epoch_ && answer.master != master_) {
    const std::string name = answer.master->to_string();
    heard_[at_] = Heard{Heard::What::kAnother, name};
    const auto same = std::count_if(heard_.begin(), heard_.end(), [&](const Heard& one) { return one.what == Heard::What::kAnother && one.why == name; });
    // What was found is one's word against that of more than half of them.
    if (2 * static_cast<std::size_t>(same) <= sentinels_.size()) return failed("names '" + name + "'");
  }
  master_ = answer.master;
  epoch_ = answer.epoch;
  std::rotate(sentinels_.begin(), sentinels_.begin() + static_cast<std::ptrdiff_t>(at_), sentinels_.begin() + static_cast<std::ptrdiff_t>(at_) + 1);
  at_ = 0;
  return Next::kFound;
}

MasterQuest::Next MasterQuest::failed(std::string why) {
  reasons_.push_back("'" + asked().to_string() + "' " + std::move(why));
  if (++at_ < sentinels_.size()) return Next::kAskNext;
  at_ = 0;
  // All of those that answer have begun to count anew.
  if (out_of_date_) {
    master_ = out_of_date_->master;
    epoch_ = out_of_date_->epoch;
    return Next::kFound;
  }
  return Next::kNobodyKnows;
}

Error MasterQuest::error() const { return error("no sentinel tells where the master '" + name_ + "' is", reasons_); }

Error MasterQuest::error(std::string text, const std::vector<std::string>& reasons) const {
  for (std::size_t i = 0; i < reasons.size(); ++i) text += (i == 0 ? ": " : "; ") + reasons[i];
  return Error{ErrorKind::kConnection, std::move(text),
               "the host of 'redis: url:' is the name that 'sentinel monitor' gives the master; 'redis: sentinels:' are the "
               "Sentinels' own addresses"};
}

bool MasterQuest::is_moved_by(const SentinelAnswer& answer) {
  using What = Heard::What;
  if (!answer.master) {
    heard_nothing("does not know a master '" + name_ + "'");
    return false;
  }
  heard_[at_] = Heard{answer.master == master_ ? What::kOurs : What::kAnother};
  const auto count = [this](What what) { return std::count_if(heard_.begin(), heard_.end(), [what](const Heard& one) { return one.what == what; }); };
  const bool is_told_anew = count(What::kOurs) == 0 && 2 * static_cast<std::size_t>(count(What::kAnother)) > heard_.size();
  if (answer.epoch <= epoch_ && !is_told_anew) return false;
  epoch_ = answer.epoch;
  if (answer.master == master_) return false;
  master_ = answer.master;
  return true;
}

void MasterQuest::heard_nothing(std::string why) { heard_[at_] = Heard{Heard::What::kSilence, "'" + asked().to_string() + "' " + std::move(why)}; }

std::optional<Error> MasterQuest::silence() const {
  std::vector<std::string> reasons;
  for (const Heard& one : heard_) {
    if (one.what != Heard::What::kSilence) return std::nullopt;
    reasons.push_back(one.why);
  }
  return error("no sentinel tells any more whether '" + master_->to_string() + "' is the master '" + name_ + "'; deletes go on there", reasons);
}

}  // namespace evictd
