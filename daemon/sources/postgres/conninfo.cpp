#include "daemon/sources/postgres/conninfo.h"

#include <fmt/format.h>
#include <libpq-fe.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <memory>

#include "daemon/net/name_lookup.h"

namespace evictd {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// libpq quotes pieces of what it could not read, and a piece may be a password, which may hold a quote itself.
std::string without_quoted_parts(std::string_view text) {
  const auto first = text.find('"');
  const auto last = text.rfind('"');
  std::string result(text.substr(0, first));
  if (first != std::string_view::npos) {
    result += "'...'";
    result += text.substr(last + 1);
  }
  std::erase(result, '\n');
  return result;
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t comma = std::min(list.find(',', begin), list.size());
    parts.push_back(list.substr(begin, comma - begin));
    begin = comma + 1;
  }
  return parts;
}

// As libpq: what is given, and else the environment's.
std::string or_environment(const std::string& given, const char* variable) {
  const char* value = given.empty() ? std::getenv(variable) : nullptr;
  return value == nullptr ? given : std::string(value);
}

// A user or password with a raw '/', '@', '?' or '#' makes libpq take a piece of it for a host, a port or a database,
// which are shown. True when `url` is a URI that looks so.
bool has_raw_secret(std::string_view url) {
  const auto scheme = url.find("://");
  if (scheme == std::string_view::npos || url.substr(0, scheme).find_first_of(" =") != std::string_view::npos)
    return false;
  url.remove_prefix(scheme + 3);
  const std::string_view before_query = url.substr(0, url.find('?'));
  const std::string_view authority = url.substr(0, url.find_first_of("/?"));
  if (std::count(before_query.begin(), before_query.end(), '@') > 1) return true;
  if (before_query.find('@') != std::string_view::npos && authority.find('@') == std::string_view::npos) return true;
  // "host:port,[::1]:port"
  for (const std::string& one : split(std::string(authority.substr(authority.rfind('@') + 1)))) {
    const auto bracket = one.rfind(']');
    const auto colon = one.find(':', bracket == std::string::npos ? 0 : bracket);
    if (colon != std::string::npos && one.find_first_not_of("0123456789", colon + 1) != std::string::npos) return true;
  }
  return false;
}

// Of "host=h;user=u;password=p", as other drivers write it, libpq makes one host, which is shown. So it is with a connection
// string in place of one of its parts.
bool holds_keywords(std::string_view value) {
  std::string lower(value);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower.find("password=") != std::string::npos || lower.find("://") != std::string::npos ||
         (lower.find(';') != std::string::npos && lower.find('=') != std::string::npos);
}

constexpr const char* kShown[] = {"host", "hostaddr", "port", "user", "dbname", "service"};

// In a startup packet's options a backslash or a space needs a backslash. Without row_security, rows that a policy hides from
// us are an error: an answer that lacks them looks like one of a table that has none, and what they lead to would stay stale.
constexpr std::string_view kPinnedOptions =
    "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=postgres -c extra_float_digits=3"
    " -c bytea_output=hex -c lc_monetary=C -c row_security=off";

}  // namespace

Result<Conninfo> Conninfo::parse(const std::string& url) {
  char* message = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
      PQconninfoParse(url.c_str(), &message), &PQconninfoFree);
  if (has_raw_secret(url)) {
    if (message != nullptr) PQfreemem(message);
    return fail(ErrorKind::kUsage, "cannot read postgres.url: its user, password, host or port holds a character that has a meaning in a URL",
                "percent-encode it: '/' is %2F, '@' is %40, ':' is %3A, '?' is %3F, '#' is %23, '%' is %25");
  }
  if (options == nullptr) {
    const std::unique_ptr<char, decltype(&PQfreemem)> owner(message, &PQfreemem);
    return fail(ErrorKind::kUsage,
                fmt::format("cannot read postgres.url: {}",
                            message == nullptr ? "out of memory" : without_quoted_parts(message)),
                "expected a libpq URI or keywords, such as 'postgresql://evictd@localhost/shop'");
  }
  Conninfo conninfo;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr) conninfo.values_[option->keyword] = option->val;
  }
  for (const char* keyword : kShown) {
    if (!holds_keywords(conninfo.get(keyword))) continue;
    return fail(ErrorKind::kUsage, fmt::format("cannot read postgres.url: its '{}' holds what looks like further settings", keyword),
                "blanks stand between the settings, not ';': 'host=localhost dbname=shop user=evictd'; or a URI: postgresql://evictd@localhost/shop");
  }
  return conninfo;
}

Result<Conninfo> Conninfo::of(const DatabaseAddress& address, const std::string& application_name) {
  Result<Conninfo> conninfo = parse(address.url.reveal());
  if (!conninfo) return conninfo;
  conninfo->use(address.credential);
  conninfo->pin_session(application_name, address.client_encoding);
  return conninfo;
}

std::string Conninfo::get(const std::string& keyword) const {
  const auto found = values_.find(keyword);
  return found == values_.end() ? std::string() : found->second;
}

std::string Conninfo::user() const {
  if (std::string given = get("user"); !given.empty()) return given;
  if (!get("service").empty()) return {};  // which may name one
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> defaults(PQconndefaults(), &PQconninfoFree);
  for (const PQconninfoOption* option = defaults.get(); option != nullptr && option->keyword != nullptr; ++option) {
    if (std::string_view(option->keyword) == "user" && option->val != nullptr) return option->val;
  }
  return {};
}

std::vector<std::string> Conninfo::hosts() const {
  // What a service names (pg_service.conf) comes before the environment, and is libpq's to read.
  if (!or_environment(get("service"), "PGSERVICE").empty()) return split(get("host"));
  return split(or_environment(get("host"), "PGHOST"));
}

std::vector<std::string> Conninfo::names() const {
  std::vector<std::string> names;
  if (!get("hostaddr").empty() || std::getenv("PGHOSTADDR") != nullptr) return names;
  for (const std::string& host : hosts()) {
    // A path, or an abstract one, is a socket; an empty one is libpq's default.
    const bool is_socket = host.empty() || host[0] == '/' || host[0] == '@';
    if (!is_socket && !NameLookup::is_numeric(host)) names.push_back(host);
  }
  return names;
}

bool Conninfo::set_addresses(const std::map<std::string, std::vector<std::string>>& addresses) {
  const std::vector<std::string> before = hosts();
  const std::vector<std::string> ports = split(or_environment(get("port"), "PGPORT"));
  std::vector<std::string> hosts_now, addresses_now, ports_now;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const auto found = addresses.find(before[i]);
    // A numeric address is its own; a socket has none.
    const bool is_numeric = NameLookup::is_numeric(before[i]);
    std::vector<std::string> own{is_numeric ? before[i] : std::string()};
    if (found != addresses.end()) own = found->second;
    for (const std::string& address : own) {
      hosts_now.push_back(before[i]);
      addresses_now.push_back(address);
      ports_now.push_back(i < ports.size() ? ports[i] : std::string());
    }
  }
  if (hosts_now.empty()) return false;
  set("host", fmt::format("{}", fmt::join(hosts_now, ",")));
  set("hostaddr", fmt::format("{}", fmt::join(addresses_now, ",")));
  if (ports.size() > 1) set("port", fmt::format("{}", fmt::join(ports_now, ",")));
  return true;
}

std::vector<Conninfo> Conninfo::each_host() const {
  const std::vector<std::string> names = hosts(), addresses = split(or_environment(get("hostaddr"), "PGHOSTADDR")),
                                 ports = split(or_environment(get("port"), "PGPORT"));
  std::vector<Conninfo> each;
  for (std::size_t i = 0; names.size() > 1 && i < names.size(); ++i) {
    Conninfo one = *this;
    one.set("host", names[i]);
    one.set("hostaddr", i < addresses.size() ? addresses[i] : "");
    one.set("port", ports.size() == 1 ? ports[0] : i < ports.size() ? ports[i] : "");
    one.set("target_session_attrs", "any");
    each.push_back(std::move(one));
  }
  return each;
}

bool Conninfo::is_same_server(const Conninfo& other) const {
  const auto port = [](const Conninfo& of) { return of.get("port").empty() ? std::string("5432") : of.get("port"); };
  return get("host") == other.get("host") && port(*this) == port(other);
}

void Conninfo::put_first(const Conninfo& first) {
  std::vector<Conninfo> each = each_host();
  std::stable_partition(each.begin(), each.end(), [&](const Conninfo& one) { return one.is_same_server(first); });
  const bool has_addresses = !get("hostaddr").empty();
  for (const char* keyword : {"host", "hostaddr", "port"}) {
    if (each.empty() || (!has_addresses && std::string_view(keyword) == "hostaddr")) continue;
    std::vector<std::string> list;
    for (const Conninfo& one : each) list.push_back(one.get(keyword));
    set(keyword, fmt::format("{}", fmt::join(list, ",")));
  }
}

void Conninfo::pin_session(const std::string& application_name,
                           const std::string& client_encoding) {
  std::string& options = values_["options"];
  if (!options.empty()) options += ' ';
  options += kPinnedOptions;
  set("client_encoding", client_encoding.empty() ? "UTF8" : client_encoding);
  set("application_name", application_name);
  // A peer that vanished without a word is noticed within about half a minute.
  set_default("connect_timeout", "10");
  set_default("keepalives_idle", "10");
  set_default("keepalives_interval", "5");
  set_default("keepalives_count", "3");
  set_default("tcp_user_timeout", "30000");
  // With several hosts, all connections must find the same, writable, one.
  if (hosts().size() > 1) set_default("target_session_attrs", "read-write");
}

std::string Conninfo::text() const {
  std::string result;
  for (const auto& [keyword, value] : values_) {
    if (!result.empty()) result += ' ';
    result += keyword + "='";
    for (const char c : value) {
      if (c == '\'' || c == '\\') result += '\\';
      result += c;
    }
    result += '\'';
  }
  return result;
}

std::string Conninfo::server() const {
  std::string host = get("host").empty() ? get("hostaddr") : get("host");
  const std::string service = or_environment(get("service"), "PGSERVICE");
  if (host.empty() && !service.empty()) return fmt::format("service '{}'", service);
  if (host.empty()) host = or_environment(or_environment(host, "PGHOST"), "PGHOSTADDR");
  const std::string port = or_environment(get("port"), "PGPORT");
  return fmt::format("{}:{}", host.empty() ? "localhost" : host, port.empty() ? "5432" : port);
}

std::string Conninfo::scrub(std::string_view text) const {
  std::string result(text);
  replace_all(result, get("password"), "***");
  replace_all(result, get("sslpassword"), "***");
  if (const char* password = std::getenv("PGPASSWORD")) replace_all(result, password, "***");
  while (!result.empty() && (result.back() == '\n' || result.back() == ' ')) result.pop_back();
  replace_all(result, "\n", "; ");
  replace_all(result, "\t", " ");
  return result;
}

}  // namespace evictd
