#include "daemon/sources/postgres/later_primary.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace evictd {
namespace {

bool is_same_server(const Conninfo& one, const Conninfo& other) {
  const std::string address = one.get("hostaddr"), others = other.get("hostaddr");
  return one.is_same_server(other) && (address.empty() || others.empty() || address == others);
}

}  // namespace

std::vector<Conninfo> each_address(const Conninfo& server, const NameLookup::Resolver& resolver) {
  std::vector<Conninfo> hosts = server.each_host(), each;
  if (hosts.empty() && !server.names().empty()) {
    hosts.push_back(server);
    hosts.back().set("target_session_attrs", "any");
  }
  for (const Conninfo& host : hosts) {
    const std::vector<std::string> names = host.names();
    const auto addresses = names.empty() ? Result<std::vector<std::string>>(std::vector<std::string>{host.get("hostaddr")}) : resolver(names[0]);
    for (const std::string& address : addresses.value_or(std::vector<std::string>{std::string()})) {
      each.push_back(host);
      each.back().set("hostaddr", address);
    }
  }
  return each;
}

std::string server_and_address(const Conninfo& server) {
  const std::string address = server.get("hostaddr");
  return address.empty() || address == server.get("host") ? server.server() : server.server() + " (" + address + ")";
}

void LaterPrimary::streaming(const SystemIdentity& followed, Conninfo server, const std::vector<Conninfo>& hosts, bool has_names, SteadyTime now) {
  followed_ = followed;
  server_ = std::move(server);
  others_.clear();
  has_names_ = has_names;
  lookup_ = Recurring();
  lookup_.due_at(now);
  looked_up(hosts, now);
}

void LaterPrimary::connecting() {
  others_.clear();
  has_names_ = false;
}

void LaterPrimary::looked_up(const std::vector<Conninfo>& hosts, SteadyTime now) {
  lookup_.answered();
  std::map<std::string, Other> others;
  for (const Conninfo& host : hosts) {
    if (is_same_server(host, server_)) continue;
    const std::string name = host.server() + '/' + host.get("hostaddr");
    if (const auto known = others_.find(name); known != others_.end()) {
      others.insert(others_.extract(known));
    } else {
      others.try_emplace(name, Other{host, {}, {}}).first->second.question.due_at(now);
    }
  }
  others_ = std::move(others);
}

SteadyTime LaterPrimary::due() const {
  SteadyTime due = has_names_ ? lookup_.due() : SteadyTime::max();
  for (const auto& [name, other] : others_) due = std::min(due, other.question.due());
  return due;
}

std::vector<std::string> LaterPrimary::asks(SteadyTime now) {
  std::vector<std::string> asked;
  for (auto& [name, other] : others_) {
    if (other.question.begins(now, kInterval)) asked.push_back(name);
  }
  return asked;
}

void LaterPrimary::answered(const std::string& other, const Result<ServerHistory>& answer, SteadyTime now) {
  const auto found = others_.find(other);
  if (found == others_.end()) return;
  Other& one = found->second;
  one.question.answered();
  one.history.reset();
  if (answer) one.history = *answer;
  if (!answer || answer->is_primary) one.question.due_at(now + kAway);
}

std::optional<LaterPrimary::Host> LaterPrimary::found() const {
  std::uint32_t latest = 0;
  std::from_chars(followed_.timeline.data(), followed_.timeline.data() + followed_.timeline.size(), latest);
  std::optional<Host> later;
  for (const auto& [name, other] : others_) {
    if (!other.history || !other.history->is_primary || other.history->system != followed_.system || other.history->timeline <= latest) continue;
    latest = other.history->timeline;
    later = Host{other.conninfo, *other.history};
  }
  return later;
}

}  // namespace evictd
