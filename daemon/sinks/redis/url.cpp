#include "daemon/sinks/redis/url.h"

#include "daemon/base/text.h"

namespace evictd {
namespace {

constexpr std::string_view kHint =
    "write redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path";

// Nothing of the url is repeated: what stands in the wrong place may be a password ("redis://:secret").
tl::unexpected<Error> malformed(std::string text) {
  return fail(ErrorKind::kUsage, "redis url: " + std::move(text), std::string(kHint));
}

Result<void> read_credentials(std::string_view text, RedisAddress& address) {
  const std::size_t colon = text.find(':');
  // Redis's own convention: without a colon the text is a user name without password.
  const std::string_view user = text.substr(0, colon);
  const std::string_view password =
      colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);
  if (!decode_percent(user, address.user) || !decode_percent(password, address.password)) {
    return malformed("a '%' in the user or password is not followed by two hex digits");
  }
  return {};
}

Result<void> read_database(std::string_view text, RedisAddress& address) {
  if (text.empty()) return {};
  if (!read_number(text, address.database)) {
    return malformed("expected a database number behind the host's '/'");
  }
  return {};
}

Result<void> read_host(std::string_view text, RedisAddress& address) {
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return malformed("expected ']' after an IPv6 address");
    address.host = std::string(text.substr(1, close - 1));
    text.remove_prefix(close + 1);
    if (!text.empty()) {
      if (!text.starts_with(':')) return malformed("expected ':' and a port after ']'");
      port = text.substr(1);
    }
  } else {
    const std::size_t colon = text.find(':');
    address.host = std::string(text.substr(0, colon));
    if (colon != std::string_view::npos) port = text.substr(colon + 1);
    if (address.host.empty()) address.host = "localhost";
  }
  if (!port.empty() && (!read_number(port, address.port) || address.port == 0)) {
    return malformed("expected a port from 1 to 65535 behind the host's ':'");
  }
  return {};
}

Result<RedisAddress> parse_socket_url(std::string_view rest, RedisAddress address) {
  const std::size_t slash = rest.find('/');
  if (slash == std::string_view::npos)
    return malformed("expected the path of a socket after 'unix://'");
  if (slash > 0) {
    if (rest[slash - 1] != '@') return malformed("expected 'unix:///path'");
    if (auto read = read_credentials(rest.substr(0, slash - 1), address); !read) {
      return tl::unexpected(read.error());
    }
  }
  std::string_view path = rest.substr(slash);
  const std::size_t query = path.find('?');
  if (query != std::string_view::npos) {
    const std::string_view setting = path.substr(query + 1);
    if (!setting.starts_with("db="))
      return malformed("expected '?db=<number>' after a socket's path");
    if (auto read = read_database(setting.substr(3), address); !read) {
      return tl::unexpected(read.error());
    }
    path = path.substr(0, query);
  }
  if (path.size() > 100) return malformed("the path of the socket is longer than 100 bytes");
  address.socket_path = std::string(path);
  address.host.clear();
  return address;
}

}  // namespace

std::string RedisAddress::to_string() const {
  if (!socket_path.empty()) return socket_path;
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<RedisAddress> parse_redis_url(std::string_view url) {
  auto all = parse_redis_urls(url);
  if (!all) return tl::unexpected(std::move(all.error()));
  return std::move(all->front());
}

Result<std::vector<RedisAddress>> parse_redis_urls(std::string_view url) {
  RedisAddress address;
  const std::size_t scheme_end = url.find("://");
  if (scheme_end == std::string_view::npos)
    return malformed("expected 'redis://', 'rediss://' or 'unix://'");
  const std::string_view scheme = url.substr(0, scheme_end);
  std::string_view rest = url.substr(scheme_end + 3);
  if (scheme == "unix") {
    auto socket = parse_socket_url(rest, std::move(address));
    if (!socket) return tl::unexpected(std::move(socket.error()));
    return std::vector<RedisAddress>{std::move(*socket)};
  }
  if (scheme == "rediss") {
    address.tls = true;
  } else if (scheme != "redis") {
    return malformed("expected 'redis://', 'rediss://' or 'unix://' as its beginning");
  }

  if (const std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
    if (auto read = read_credentials(rest.substr(0, at), address); !read) {
      return tl::unexpected(read.error());
    }
    rest.remove_prefix(at + 1);
  }
  if (rest.find('?') != std::string_view::npos) {
    return malformed("settings after '?' are not known; TLS files are set under 'redis: tls:'");
  }
  const std::size_t slash = rest.find('/');
  if (slash != std::string_view::npos) {
    if (auto read = read_database(rest.substr(slash + 1), address); !read) {
      return tl::unexpected(read.error());
    }
  }
  std::vector<RedisAddress> addresses;
  std::string_view hosts = rest.substr(0, slash);
  while (true) {
    const std::size_t comma = hosts.find(',');
    RedisAddress one = address;
    if (auto read = read_host(hosts.substr(0, comma), one); !read) return tl::unexpected(read.error());
    addresses.push_back(std::move(one));
    if (comma == std::string_view::npos) break;
    hosts.remove_prefix(comma + 1);
  }
  if (addresses.size() > 1 && address.database != 0) {
    return malformed("several addresses are those of a cluster's nodes, which has database 0 alone; got database " + std::to_string(address.database));
  }
  return addresses;
}

}  // namespace evictd
