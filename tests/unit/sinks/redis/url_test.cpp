#include "daemon/sinks/redis/url.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

RedisAddress parsed(std::string_view url) {
  auto address = parse_redis_url(url);
  EXPECT_TRUE(address.has_value()) << url << ": " << address.error().text;
  return address.value_or(RedisAddress{});
}

std::string refused(std::string_view url) {
  const auto address = parse_redis_url(url);
  EXPECT_FALSE(address.has_value()) << url;
  if (address) return "";
  EXPECT_EQ(address.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(address.error().hint,
            "write redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path");
  return address.error().text;
}

TEST(RedisUrl, Defaults) {
  const RedisAddress address = parsed("redis://");
  EXPECT_EQ(address.to_string(), "localhost:6379");
  EXPECT_EQ(address.database, 0u);
  EXPECT_FALSE(address.tls);
}

TEST(RedisUrl, Everything) {
  const RedisAddress address = parsed("rediss://joe:p%40ss%3aword@cache.example:7000/12");
  EXPECT_TRUE(address.tls);
  EXPECT_EQ(address.user, "joe");
  EXPECT_EQ(address.password, "p@ss:word");
  EXPECT_EQ(address.host, "cache.example");
  EXPECT_EQ(address.port, 7000);
  EXPECT_EQ(address.database, 12u);
}

TEST(RedisUrl, PasswordAlone) {
  const RedisAddress address = parsed("redis://:secret@localhost");
  EXPECT_EQ(address.user, "");
  EXPECT_EQ(address.password, "secret");
}

TEST(RedisUrl, PasswordWithASlashAndAnAt) {
  EXPECT_EQ(parsed("redis://:a@b@host/1").password, "a@b");
}

TEST(RedisUrl, Ipv6) {
  const RedisAddress address = parsed("redis://[::1]:6380/1");
  EXPECT_EQ(address.host, "::1");
  EXPECT_EQ(address.to_string(), "[::1]:6380");
}

TEST(RedisUrl, UnixSocket) {
  const RedisAddress address = parsed("unix://:pw@/run/redis.sock?db=2");
  EXPECT_EQ(address.socket_path, "/run/redis.sock");
  EXPECT_EQ(address.to_string(), "/run/redis.sock");
  EXPECT_EQ(address.password, "pw");
  EXPECT_EQ(address.database, 2u);
}

// The host was forgotten, and its place is taken by what nobody may read in a log.
TEST(RedisUrl, AnErrorNeverRepeatsWhatMayBeAPassword) {
  for (const std::string_view url : {"redis://:correct-horse", "redis://user:correct-horse", "redis://correct:horse/correct-horse",
                                     "unix://:correct-horse@/run/redis.sock?db=correct-horse", "correct-horse://host", "redis://[::1]:correct-horse"}) {
    EXPECT_EQ(refused(url).find("horse"), std::string::npos) << url;
  }
}

TEST(RedisUrl, Refusals) {
  EXPECT_EQ(refused("localhost:6379"), "redis url: expected 'redis://', 'rediss://' or 'unix://'");
  EXPECT_EQ(refused("http://x"),
            "redis url: expected 'redis://', 'rediss://' or 'unix://' as its beginning");
  EXPECT_EQ(refused("redis://x:0"), "redis url: expected a port from 1 to 65535 behind the host's ':'");
  EXPECT_EQ(refused("redis://x:65536"), "redis url: expected a port from 1 to 65535 behind the host's ':'");
  EXPECT_EQ(refused("redis://x/one"), "redis url: expected a database number behind the host's '/'");
  EXPECT_EQ(refused("redis://[::1"), "redis url: expected ']' after an IPv6 address");
  EXPECT_EQ(refused("redis://[::1]6379"), "redis url: expected ':' and a port after ']'");
  EXPECT_EQ(refused("redis://x?db=1"),
            "redis url: settings after '?' are not known; TLS files are set under 'redis: tls:'");
  EXPECT_EQ(refused("unix://path"), "redis url: expected the path of a socket after 'unix://'");
  EXPECT_EQ(refused("unix://host/path"), "redis url: expected 'unix:///path'");
  EXPECT_EQ(refused("unix:///path?x=1"),
            "redis url: expected '?db=<number>' after a socket's path");
  EXPECT_EQ(refused("unix:///" + std::string(100, 'x')),
            "redis url: the path of the socket is longer than 100 bytes");
}

TEST(RedisUrl, NoErrorShowsThePassword) {
  for (const char* url : {"redis://u:hunter%2@host", "redis://u:hunter2@host:99999",
                          "redis://u:hunter2@host/x", "unix://u:hunter2@/path?x"}) {
    EXPECT_EQ(refused(url).find("hunter"), std::string::npos) << url;
  }
  EXPECT_EQ(refused("redis://u:hunter%2@host"),
            "redis url: a '%' in the user or password is not followed by two hex digits");
}

}  // namespace
}  // namespace evictd
