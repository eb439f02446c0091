// Of several hosts in postgres.url, the first that can be written to is followed. An old primary that came back beside the one that
// was promoted in its place can, too; its timeline is the lower one. Which hosts are asked when, and whether another one is the one to
// follow. What the new primary is told meanwhile deletes nothing: one that answers is asked often, on a session that is kept, and waits for
// no other. Pure: the caller asks the hosts.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/recurring.h"
#include "daemon/sources/postgres/replication.h"

namespace evictd {

class LaterPrimary {
 public:
  static constexpr std::chrono::seconds kInterval{1};  // of a host that answered
  static constexpr std::chrono::seconds kAway{10};     // of one that did not, which costs it a connection each time

  // What one host said of itself.
  struct Host {
    Conninfo conninfo;  // of this host alone
    ServerHistory history;
  };

  // A stream began; `followed`: of the server that it comes from. `others`: how to reach each of the others alone.
  void streaming(const SystemIdentity& followed, std::vector<Conninfo> others, SteadyTime now);
  void connecting() { others_.clear(); }  // an answer that is not there yet never comes

  SteadyTime due() const;
  // -> those to be asked now, each of them to be answered.
  std::vector<std::size_t> asks(SteadyTime now);
  const Conninfo& conninfo(std::size_t other) const { return others_[other].conninfo; }
  void answered(std::size_t other, const Result<ServerHistory>& answer, SteadyTime now);
  // By what they said last: the primary of the latest timeline of the same system, if that is a later one.
  std::optional<Host> found() const;

 private:
  struct Other {
    Conninfo conninfo;
    Recurring question;
    std::optional<ServerHistory> history;
  };
  std::vector<Other> others_;
  SystemIdentity followed_;
};

}  // namespace evictd
