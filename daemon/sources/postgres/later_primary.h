// Of several hosts in postgres.url, the first that can be written to is followed. An old primary that came back beside the one that
// was promoted in its place can, too; its timeline is the lower one. Whether another host is the one to follow. Pure: the caller
// asks the hosts.
#pragma once

#include <chrono>
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
  static constexpr std::chrono::seconds kInterval{10};

  // What one host says of itself.
  struct Host {
    Conninfo conninfo;  // of this host alone
    ServerHistory history;
  };

  // A stream began; `followed`: of the server that it comes from.
  void streaming(const SystemIdentity& followed, SteadyTime now);
  void connecting() { question_.forget(); }  // an answer that is not there yet never comes

  SteadyTime due() const { return question_.due(); }
  bool asks(SteadyTime now) { return question_.begins(now, kInterval); }
  // What those said that answered. -> the primary of a later timeline of the same system, whose server is to be tried first.
  std::optional<Host> answered(std::vector<Host> hosts);

 private:
  Recurring question_;
  SystemIdentity followed_;
};

}  // namespace evictd
