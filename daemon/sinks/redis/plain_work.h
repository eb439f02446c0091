// Rules that ask for deletes only (`fill: plain`): ordinary commands, no script and no marker.
//
//   keys      UNLINK, many to a command. The reply is one number, how many there were, so an order is of one rule
//   tags      SSCAN, UNLINK; members leave the set with the last delete, in one MULTI with it: taken off before or after,
//             one that a reader stores again in between would be in no set (walk.h). A full Redis refuses any MULTI: then
//             the values go, and the members stay behind, which costs room until a later walk
//   patterns  SCAN, UNLINK; of tags: each set that matches, as above (patterns.h)
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/sinks/redis/redis_work.h"

namespace evictd {

// What `command` is about is deleted by ordinary commands alone.
bool is_plain(const Command& command);

// One page of a walk: appended to what is sent, its replies judged one by one.
class PlainPage {
 public:
  enum class Answer : std::uint8_t {
    kMore,       // as it should be, and further replies are to come
    kDone,       // the names are gone
    kForbidden,  // the rights of this connection do not reach one of the names: nothing was done
    kFull,       // a full Redis queues nothing in a transaction, not even deletes: nothing was done
    kWrong,
  };

  // `set`: the names leave it; empty: they are of none, or stay in it.
  void send(std::string& out, std::span<const std::string> names, std::string_view set);
  std::size_t replies() const { return awaited_.size(); }  // still to come
  std::uint64_t deleted() const { return deleted_; }       // of a page that is done
  // REQUIRES: replies() > 0.
  Answer on_reply(const Reply& reply);
  Answer on_error(std::string_view text);

 private:
  enum class Awaited : std::uint8_t { kMulti, kQueued, kExec, kDeleted };
  Awaited take_awaited();
  Answer take_deleted(const Reply& reply);

  std::vector<Awaited> awaited_;
  std::size_t size_ = 0;
  std::uint64_t deleted_ = 0;
  bool is_forbidden_ = false;
  bool is_full_ = false;
};

// Of keys. REQUIRES: is_plain(command).
std::unique_ptr<RedisWork> make_plain_work(Ticket ticket, const Command& command, WorkShared& shared);

}  // namespace evictd
