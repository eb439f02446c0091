#include "daemon/sinks/redis/doctor/key_sample.h"

#include "daemon/sinks/redis/blocking_client.h"
#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/url.h"

namespace evictd {

Result<std::vector<std::string>> sample_keys(const RedisOptions& options, std::size_t most) {
  auto client = BlockingClient::open(options);
  if (!client) return tl::unexpected(client.error());
  std::vector<std::string> keys;
  std::string cursor = "0";
  do {
    const Result<Reply> page = (*client)->command({"SCAN", cursor, "COUNT", "1000"});
    if (!page) return tl::unexpected(page.error());
    if (page->is_error()) return tl::unexpected(redis_error(page->text));
    if (page->elements.size() != 2) break;
    cursor = page->elements[0].text;
    for (const Reply& key : page->elements[1].elements) {
      if (!key.text.starts_with("evictd:")) keys.push_back(key.text);
    }
  } while (cursor != "0" && keys.size() < most);
  return keys;
}

Result<std::string> redis_url_without_password(const std::string& url, bool& had_password) {
  const Result<RedisAddress> address = parse_redis_url(url);
  if (!address) return tl::unexpected(address.error());
  had_password = !address->password.empty();
  if (!had_password) return url;
  // What stands before '@' and holds the password; a host has no '@'.
  const std::size_t begin = url.find("://") + 3;
  const std::size_t at = url.rfind('@');
  const std::size_t colon = url.find(':', begin);
  return url.substr(0, std::min(colon, at)) + ":${REDIS_PASSWORD}" + url.substr(at);
}

}  // namespace evictd
