// Calls: what is sent together to one node and answered one by one: a command about one slot, or, where a node is named, about what that
// serves; or several commands, a reply each. And their way over a node's connection.
//
// A call that was not answered when its connection ended is still in its queue: it may or may not have been done, and is sent
// again, which is safe (G2).
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/sinks/redis/redis_work.h"
#include "daemon/sinks/redis/topology/slot_map.h"

namespace evictd {

// Whose a call is that is no order's (Call::order).
inline constexpr std::uint64_t kSaveCalls = 1;    // copies of the record that are written
inline constexpr std::uint64_t kLoadCalls = 2;    // and read
inline constexpr std::uint64_t kFirstOrder = 16;  // orders count from here

struct Call {
  std::uint64_t order = 0;  // whose it is
  std::uint64_t tag = 0;    // which one of it
  Slot slot = 0;
  std::string bytes;             // the command, as it is sent; or several
  std::optional<Script> script;  // that it runs
  std::optional<HostPort> node;  // to this one, whatever it serves
  bool is_asking = false;        // `node` said ASK's target: behind ASKING
  std::uint32_t commands = 1;    // in `bytes`, none of them a script then
  std::uint32_t keys = 1;        // it is about: what it is to the node

  std::uint32_t answered = 0;  // of its commands, by this connection
  HostPort served_by = {};     // of one that was answered
  std::optional<SteadyTime> redirected_at = {};  // since when it is told to come again, or to go where it cannot
};

class CallAnswers {
 public:
  virtual ~CallAnswers() = default;
  // As ReplyReceiver has them, for the command `call.answered` of the call. After true, that command is over.
  virtual bool on_call_reply(Call& call, Reply&& reply) = 0;
  virtual bool on_call_error(Call& call, std::string_view text, std::string& about) = 0;
};

// Where calls go.
class CallRoutes {
 public:
  virtual ~CallRoutes() = default;
  // To whoever serves its slot, or to `call.node`; waits while nobody can be asked.
  virtual void send(Call call) = 0;
  virtual const SlotMap& slots() const = 0;
};

// Of one node. Outlives its connections.
struct CallQueue {
  std::deque<Call> to_send;
  std::deque<Call> under_way;
  std::size_t keys = 0;  // of both

  void add(Call call) {
    keys += call.keys;
    to_send.push_back(std::move(call));
  }
  // A command of the first one under way is over.
  void command_over() {
    Call& call = under_way.front();
    if (++call.answered < call.commands) return;
    keys -= call.keys;
    under_way.pop_front();
  }
  // All of them, in the order they came.
  std::deque<Call> take_all() {
    std::deque<Call> all = std::move(under_way);
    for (Call& call : to_send) all.push_back(std::move(call));
    for (Call& call : all) call.answered = 0;
    *this = CallQueue();
    return all;
  }
};

// What waits for a node that is away, or was told to come again, in the order it came. Its sink bounds it by bytes().
class HeldCalls {
 public:
  bool empty() const { return calls_.empty(); }
  std::size_t size() const { return calls_.size(); }
  std::size_t bytes() const { return bytes_; }
  void add(Call call) {
    bytes_ += call.bytes.size();
    calls_.push_back(std::move(call));
  }
  std::list<Call> take_all() {
    bytes_ = 0;
    return std::exchange(calls_, {});
  }
  // When they are sent again.
  SteadyTime due() const { return due_; }
  void due_at(SteadyTime time) { due_ = time; }

 private:
  std::list<Call> calls_;
  std::size_t bytes_ = 0;
  SteadyTime due_ = SteadyTime::min();
};

// Everything that is asked of one node in one connection.
class CallPipe final : public RedisWork {
 public:
  CallPipe(WorkShared& shared, CallQueue& queue, CallAnswers& answers)
      : RedisWork(0, Command{}, shared), queue_(queue), answers_(answers) {}

  void pump(Session& session, SteadyTime now) override {
    if (reload_) {
      session.load_script(*reload_, now);
      reload_.reset();
    }
    while (!queue_.to_send.empty() && session.output().size() < kOutputMax) {
      Call& call = queue_.to_send.front();
      if (call.is_asking) {
        append_command(session.output(), {"ASKING"});
        session.expect(*this, kAsking, now);
      }
      session.output() += call.bytes;
      for (std::uint32_t i = 0; i < call.commands; ++i) session.expect(*this, kCall, now);
      queue_.under_way.push_back(std::move(call));
      queue_.to_send.pop_front();
    }
  }

  bool on_reply(std::uint64_t tag, Reply&& reply) override {
    if (tag == kAsking) return reply.is_ok();
    if (!answers_.on_call_reply(queue_.under_way.front(), std::move(reply))) return false;
    queue_.command_over();
    reloads_ = 0;
    return true;
  }

  bool on_error(std::uint64_t tag, std::string_view text, std::string& about) override {
    if (tag == kAsking) return false;
    Call& call = queue_.under_way.front();
    if (is_flushed(text) && call.script && reloads_ < kReloadsMax) {
      ++reloads_;
      reload_ = call.script;
      queue_.to_send.push_front(std::move(call));
      queue_.under_way.pop_front();
      return true;
    }
    if (!answers_.on_call_error(call, text, about)) return false;
    queue_.command_over();
    return true;
  }

  bool is_finished() const override { return false; }

 private:
  static constexpr std::uint64_t kCall = 0;
  static constexpr std::uint64_t kAsking = 1;
  static constexpr std::size_t kOutputMax = 1024 * 1024;

  CallQueue& queue_;
  CallAnswers& answers_;
  std::optional<Script> reload_;
  std::size_t reloads_ = 0;
};

}  // namespace evictd
