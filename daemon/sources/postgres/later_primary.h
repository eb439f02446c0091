// Of several hosts in postgres.url, or several addresses of their names, the first that can be written to is followed. An old primary that
// came back beside the one that was promoted in its place can, too; its timeline is the lower one. Which of them are asked when, and whether
// another one is the one to follow. What the new primary is told meanwhile deletes nothing: one that answers is asked often, on a session
// that is kept, and waits for no other. Pure: the caller looks names up and asks.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/sources/postgres/catalogue.h"
#include "daemon/sources/postgres/conninfo.h"
#include "daemon/sources/postgres/recurring.h"
#include "daemon/sources/postgres/replication.h"

namespace evictd {

// How to reach each address of each host of `server` alone, whether or not it can be written to. Nothing where there is one host, and no
// name. A name that cannot be looked up is left to whoever connects. May block.
std::vector<Conninfo> each_address(const Conninfo& server, const NameLookup::Resolver& resolver = NameLookup::system_resolver);
// "db:5432 (10.0.0.1)", of one of several addresses.
std::string server_and_address(const Conninfo& server);

class LaterPrimary {
 public:
  static constexpr std::chrono::seconds kInterval{1};  // of one that may be promoted
  static constexpr std::chrono::seconds kAway{10};     // of one that did not answer, which costs it a connection each time, or is a primary itself
  static constexpr std::chrono::seconds kLookUp{5};    // a name may come to stand for others

  // What one of them said of itself.
  struct Host {
    Conninfo conninfo;  // of this one alone
    ServerHistory history;
  };

  // A stream began, from `server`, which is `followed`. `hosts`: how to reach each host alone, or each address, that one among them.
  // `has_names`: some of them are names.
  void streaming(const SystemIdentity& followed, Conninfo server, const std::vector<Conninfo>& hosts, bool has_names, SteadyTime now);
  void connecting();  // an answer that is not there yet never comes

  SteadyTime due() const;
  // Whether to look their names up now, to be answered by what they stand for.
  bool looks_up(SteadyTime now) { return has_names_ && lookup_.begins(now, kLookUp); }
  void looked_up(const std::vector<Conninfo>& hosts, SteadyTime now);
  // -> those to be asked now, each of them to be answered.
  std::vector<std::string> asks(SteadyTime now);
  // REQUIRES: asks() said so, and no answer came since, of anything.
  const Conninfo& conninfo(const std::string& other) const { return others_.at(other).conninfo; }
  bool has(const std::string& other) const { return others_.contains(other); }
  void answered(const std::string& other, const Result<ServerHistory>& answer, SteadyTime now);
  // By what they said last: the primary of the latest timeline of the same system, if that is a later one.
  std::optional<Host> found() const;

 private:
  struct Other {
    Conninfo conninfo;
    Recurring question;
    std::optional<ServerHistory> history;
  };
  std::map<std::string, Other> others_;  // by host, port and address
  bool has_names_ = false;
  Recurring lookup_;
  SystemIdentity followed_;
  Conninfo server_;
};

}  // namespace evictd
