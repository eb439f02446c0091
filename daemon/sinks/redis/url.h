// Where Redis is, read from a URL. Errors never show the password.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mapping/error.h"

namespace evictd {

struct RedisAddress {
  bool tls = false;
  std::string host = "localhost";  // name or address; empty when `socket_path` is set
  std::uint16_t port = 6379;
  std::string socket_path;
  std::string user;  // empty: the default user
  std::string password;
  std::uint32_t database = 0;

  // For messages: "localhost:6379" or the socket's path.
  std::string to_string() const;
};

// redis://[user[:password]@]host[:port][/database], also rediss:// and unix:///path[?db=n]. Percent
// escapes are decoded in user and password. kUsage on anything else.
Result<RedisAddress> parse_redis_url(std::string_view url);

// The same with several addresses, "host:port,host:port": nodes of one cluster, any of which tells of all others.
Result<std::vector<RedisAddress>> parse_redis_urls(std::string_view url);

}  // namespace evictd
