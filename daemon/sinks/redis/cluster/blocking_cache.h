// A cache as a blocking caller sees it, one server or a cluster: each command goes to whoever serves the key it is about. For the
// refresher and the audit. Of a cluster it keeps a connection to each master, and follows slots that move and masters that change
// as long as the deadline of a command allows. Not for several threads.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/interface/record.h"
#include "daemon/sinks/redis/blocking_client.h"
#include "daemon/sinks/redis/topology/slot_map.h"

namespace evictd {

struct KeyedCommand {
  std::string key;  // any of those it is about: they lie in one slot
  std::vector<std::string> words;
};

class BlockingCache {
 public:
  // An error names the address.
  static Result<std::unique_ptr<BlockingCache>> open(const RedisOptions& options);
  ~BlockingCache();

  bool is_cluster() const;
  // Of one of its nodes, for a person.
  const RedisAddress& address() const;

  // One reply for each, in their order; what lies on one server keeps its order there. An error reply is a Reply: of a cluster, one that
  // redirects stands there only when it still did at the deadline. An Error is a lost connection: of commands nothing is known.
  Result<std::vector<Reply>> pipeline(const std::vector<KeyedCommand>& commands);
  Result<Reply> command(const std::string& key, std::vector<std::string> words);

  // What evictd keeps on record under this name; nothing when there is no record. Of a cluster: its copies, judged as the daemon judges them;
  // where a master has not what the others have, kRollbackGap stands among the gaps, which the daemon may not have seen yet.
  Result<std::optional<Record>> record(const std::string& record_key);

  // Of a cluster, as it was told last: masters, and what each serves. One server: one address.
  const std::vector<HostPort>& masters() const;
  const SlotMap& slots() const;
  // Asks who serves what. Nothing on one server.
  Result<void> look();
  // To this one of masters(), whatever it serves.
  Result<std::vector<Reply>> pipeline_to(std::size_t master, const std::vector<std::vector<std::string>>& commands);

 private:
  BlockingCache();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace evictd
