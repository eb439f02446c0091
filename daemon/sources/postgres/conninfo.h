// Conninfo: how to reach a PostgreSQL server, as libpq reads it (URI or keywords), with the session
// settings that evictd insists on. Knows the password, and so how to keep it out of every text.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/secret.h"
#include "daemon/net/credential.h"
#include "mapping/error.h"

namespace evictd {

// Whatever it takes to sign in to a database, as configured.
struct DatabaseAddress {
  Secret url;                   // empty: none is configured
  CredentialSource credential;  // where the password is, if it is not in the url
  std::string client_encoding;  // empty: the database's own
};

class Conninfo {
 public:
  // kUsage when libpq cannot read it; the text never repeats what was given.
  static Result<Conninfo> parse(const std::string& url);
  // For a session of evictd's: with the credential, and pinned (pin_session).
  static Result<Conninfo> of(const DatabaseAddress& address, const std::string& application_name);

  // Sets a libpq keyword, whatever the user said.
  void set(const std::string& keyword, const std::string& value) { values_[keyword] = value; }
  void set_default(const std::string& keyword, const std::string& value) {
    values_.try_emplace(keyword, value);
  }
  std::string get(const std::string& keyword) const;

  // Who signs in: the url's user, or whom libpq takes without one (PGUSER, the user that we run as). Empty: nobody knows.
  std::string user() const;

  // Where the password is asked for at every connect; not set: it is in the text, or there is none.
  void use(CredentialSource credential) { credential_ = std::move(credential); }
  const CredentialSource& credential() const { return credential_; }

  // The hosts that libpq would look up while it connects, and so block: names, without an address beside them.
  std::vector<std::string> names() const;
  // Gives each of those names its addresses, so that libpq has nothing to look up: a host with several stands
  // several times, one without is left out. The names stay: certificates are compared with them. False when no
  // host is left.
  bool set_addresses(const std::map<std::string, std::vector<std::string>>& addresses);

  // For each of several hosts, how to reach that one alone, whether or not it can be written to. One or none: nothing.
  std::vector<Conninfo> each_host() const;
  // The one host of `first` is tried before the others.
  void put_first(const Conninfo& first);
  bool is_same_server(const Conninfo& other) const;

  // The sessions evictd opens: text forms pinned, so that a key never depends on settings of a role
  // or a database (later options win over the user's own), dead peers noticed, and a name for
  // pg_stat_activity.
  void pin_session(const std::string& application_name, const std::string& client_encoding);

  // The keyword form, for libpq. Contains the password: never to be shown.
  std::string text() const;

  // "localhost:5432", for messages.
  std::string server() const;

  // `text` without the password, on one line.
  std::string scrub(std::string_view text) const;

 private:
  std::vector<std::string> hosts() const;

  std::map<std::string, std::string> values_;
  CredentialSource credential_;
};

}  // namespace evictd
