// A blocking connection to Redis, for whoever looks beside the loop: `check`, and the audit. Built on the
// same transport and reader as the sink.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/sinks/redis/redis_sink.h"
#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/url.h"

namespace evictd {

// Where the master is, by the Sentinels of `options`: what one tells and, where there are several, others confirm, as for the sink.
// REQUIRES: there are some.
Result<HostPort> ask_sentinels(const RedisOptions& options);

class BlockingClient {
 public:
  // Connects, and signs in as the url says. Every failure names the address.
  static Result<std::unique_ptr<BlockingClient>> open(const RedisOptions& options);
  // To this node of a cluster; nothing: the last address of the url, or what the Sentinels say.
  static Result<std::unique_ptr<BlockingClient>> open(const RedisOptions& options, const std::optional<HostPort>& node);
  ~BlockingClient();

  // An error reply is a Reply; an Error is a broken connection or a timeout, and the end of it: each further call has the same Error.
  Result<Reply> command(const std::vector<std::string>& arguments);

  // Sends them together; one reply each, in their order. They are commands of their own: others' come in between.
  Result<std::vector<Reply>> pipeline(const std::vector<std::vector<std::string>>& commands);

  const RedisAddress& address() const;

 private:
  BlockingClient();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
