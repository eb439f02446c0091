// Walks of tags: the members of their sets.
//
//   begin   a tombstone on the walk's own marker, before the first key is touched
//   scan    one page of names (SSCAN; ZSCAN where members have ends, see lua/reader.lua)
//   page    that page's keys through the invalidate script; deleted members leave the set with it, unless they have ends
//   ...     scan and page again until the cursor is back at 0
//   finish  note in the marker that it was finished: a replay then does nothing
//
// Rules that ask for deletes only have no markers: their walks are scan and page, by ordinary commands (plain_work.h).
//
// A walk has one call under way; several walks run side by side, and large ones are paced (WalkPacer). A walk that is cut
// off by a lost connection begins anew: its members are tombstoned, so that the part done already is a replay, or gone.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/sinks/redis/plain_work.h"
#include "daemon/sinks/redis/walk_call.h"

namespace evictd {

// One tag's set.
class MemberWalk {
 public:
  // kTag: an order named the tag. What its key holds, if no set, can have no members and is deleted.
  // kPattern: its key matched a glob. What is no set is somebody else's, and left alone.
  enum class FoundBy { kTag, kPattern };

  // `command` and `shared` must outlive it.
  MemberWalk(FoundBy found_by, std::string set, std::string_view tokens, const Command& command, WorkShared& shared);

  bool is_done() const { return stage_ == Stage::kDone; }
  bool wants_wake() const { return call_.wants_wake(); }
  void pump(Session& session, ReplyReceiver& receiver, std::uint64_t tag, SteadyTime now);
  bool on_reply(Reply&& reply, Outcome& outcome);
  bool on_error(std::string_view text, std::string& about);

 private:
  enum class Stage { kBegin, kScan, kPage, kUnlink, kFinish, kDone };

  void send_marker_call(Session& session, Script which, std::string_view flags, SteadyTime now);
  void send_page(Session& session, ReplyReceiver& receiver, std::uint64_t tag, SteadyTime now);
  bool take_page(PlainPage::Answer answer, Outcome& outcome);
  std::size_t next_page_size() const;
  bool members_leave() const;
  bool is_wanted(std::string_view name);
  bool take_reply(Reply&& reply, Outcome& outcome);
  bool take_names(Reply&& reply);
  bool take_error(std::string_view text);
  void page_done();
  void halve_page();
  void drop_page();

  FoundBy found_by_;
  std::string set_;
  std::string tokens_;
  const Command& command_;
  WorkShared& shared_;
  WalkCall call_;

  const bool is_plain_;
  Stage stage_;
  bool is_large_ = false;
  bool members_have_ends_ = false;  // a sorted set
  bool is_wrong_type_ = false;      // said the last answer: it is not of the kind it was taken for
  bool is_full_ = false;  // Redis was, during this walk: members are not taken off
  std::string cursor_ = "0";
  ScanCount count_;
  std::vector<std::string> page_;
  std::size_t page_size_ = 0;  // of the call under way, from the front of page_
  std::size_t page_limit_;
  PlainPage plain_page_;
};

// All tags of a command, some at a time.
std::unique_ptr<RedisWork> make_tags_work(Ticket ticket, const Command& command, WorkShared& shared);

}  // namespace evictd
