// What the network and the server do to a connection: kill -9, freeze, cut, silence; and what must
// hold.
#include <gmock/gmock.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/sinks/redis/record_text.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

class FaultsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    EVICTD_NEED_REDIS();
    server_ = std::make_unique<RedisServer>();
    options_ = options_for(*server_);
  }
  void connect() {
    driven_ = std::make_unique<DrivenSink>(options_);
    ASSERT_TRUE(driven_->until_connected());
  }
  SinkJournal& journal() { return driven_->journal(); }
  // The record, with this number: stored, or the connection ended over it.
  bool is_saved(Record& record, std::uint64_t sequence) {
    record.sequence = sequence;
    const auto saved = journal().records_saved.size();
    const int ended = journal().disconnects;
    driven_->sink().save_record(record);
    EXPECT_TRUE(driven_->until([&] { return journal().records_saved.size() > saved || journal().disconnects > ended; }));
    return journal().records_saved.size() > saved;
  }

  std::vector<OrderBuilder> many_commands(int commands, int keys) {
    std::vector<OrderBuilder> made;
    int next = 0;
    for (int i = 0; i < commands; ++i) {
      OrderBuilder builder(Act::kInvalidate);
      builder.trusting();
      for (int k = 0; k < keys; ++k) builder.key("k" + std::to_string(next++), {10});
      made.push_back(builder);
    }
    return made;
  }

  std::unique_ptr<RedisServer> server_;
  RedisOptions options_;
  std::unique_ptr<DrivenSink> driven_;
};

TEST_F(FaultsTest, KillNineInThePipelineLosesNothingSilently) {  // G1
  connect();
  const std::vector<OrderBuilder> commands = many_commands(60, 500);
  for (std::size_t i = 0; i < commands.size() && driven_->sink().has_room(Urgency::kPrompt); ++i) {
    driven_->sink().submit(100 + i, commands[i].order());
  }
  ASSERT_TRUE(driven_->until([&] { return !journal().done.empty(); }));
  server_->kill();
  ASSERT_TRUE(driven_->until([&] { return journal().disconnects == 1; }));
  const std::string before = journal().last_connected.instance;
  // Each has ended, one way.
  std::size_t ended = journal().done.size() + journal().lost.size();
  EXPECT_GT(journal().lost.size(), 0u);
  EXPECT_FALSE(driven_->sink().has_room(Urgency::kPrompt));
  server_->start_again();
  ASSERT_TRUE(driven_->until_connected());
  EXPECT_NE(journal().last_connected.instance, before) << "another process has another run_id";
  for (const Ticket ticket : std::set<Ticket>(journal().lost)) {
    expect_counts(driven_->run(commands[ticket - 100]), 0, 500, 0, 0);
  }
  EXPECT_LE(ended, 60u);
}

TEST_F(FaultsTest, FrozenServerIsGivenUpAfterTheTimeoutAndItsLateRepliesAreNeverRead) {
  options_.command_timeout = milliseconds(200);
  options_.connect_timeout = milliseconds(200);
  connect();
  server_->client().set("k", "v");
  server_->freeze();
  const OrderBuilder command = OrderBuilder(Act::kInvalidate).key("k", {10});
  driven_->sink().submit(500, command.order());
  const bool lost = driven_->until([&] { return journal().lost.contains(500); });
  server_->thaw();
  ASSERT_TRUE(lost);
  EXPECT_EQ(journal().last_class, "timeout");
  EXPECT_THAT(journal().last_error.text, HasSubstr("did not reply within 200ms"));
  ASSERT_TRUE(driven_->until_connected());
  // It may have been applied when the server woke up: once more is safe (G2).
  const Outcome again = driven_->run(command);
  EXPECT_EQ(again.deleted + again.replayed + again.absent, 1u);
  EXPECT_FALSE(server_->client().exists("k"));
}

TEST_F(FaultsTest, FullPipeNeverDeadlocks) {  // G8
  options_.commands_max = 10'000;
  options_.output_bytes_max = options_.under_way_bytes_max = 64 * 1024 * 1024;
  connect();
  // Far more than the socket's buffers hold in either direction, submitted before anything is read.
  const std::vector<OrderBuilder> commands = many_commands(300, 512);
  for (std::size_t i = 0; i < commands.size(); ++i) driven_->sink().submit(100 + i, commands[i].order());
  ASSERT_TRUE(driven_->until([&] { return journal().done.size() == commands.size(); }));
  EXPECT_TRUE(journal().lost.empty());
}

// All that the sink has written into its socket so far.
std::uint64_t bytes_written(Sink& sink) {
  Waiting waiting;
  sink.wait_for(waiting);
  EXPECT_EQ(waiting.descriptors.size(), 1u);
  tcp_info info{};
  socklen_t length = sizeof(info);
  int unacknowledged = 0;
  EXPECT_EQ(::getsockopt(waiting.descriptors.at(0).fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_EQ(::ioctl(waiting.descriptors.at(0).fd, SIOCOUTQ, &unacknowledged), 0);
  return info.tcpi_bytes_acked + static_cast<std::uint64_t>(unacknowledged);
}

TEST_F(FaultsTest, ServerIsHandedOneShortBurstAndMoreAsItReplies) {
  options_.commands_max = 10'000;
  options_.output_bytes_max = options_.under_way_bytes_max = 64 * 1024 * 1024;
  connect();
  server_->freeze();
  const std::uint64_t before = bytes_written(driven_->sink());
  const std::vector<OrderBuilder> commands = many_commands(300, 512);  // 6 MB
  for (std::size_t i = 0; i < commands.size(); ++i) driven_->sink().submit(100 + i, commands[i].order());
  for (int i = 0; i < 3; ++i) driven_->turn();
  const std::uint64_t burst = bytes_written(driven_->sink()) - before;
  server_->thaw();
  EXPECT_GT(burst, 0u);
  EXPECT_LT(burst, 512u * 1024) << "8 KiB, and 32 bytes for each microsecond that the way there and back takes";
  ASSERT_TRUE(driven_->until([&] { return journal().done.size() == commands.size(); }));
}

TEST_F(FaultsTest, RoomIsBounded) {  // G8
  options_.commands_max = 4;
  connect();
  const std::vector<OrderBuilder> commands = many_commands(5, 1);
  for (std::size_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(driven_->sink().has_room(Urgency::kPrompt));
    driven_->sink().submit(100 + i, commands[i].order());
  }
  EXPECT_FALSE(driven_->sink().has_room(Urgency::kPrompt));
  ASSERT_TRUE(driven_->until([&] { return journal().done.size() == 4; }));
  EXPECT_TRUE(driven_->sink().has_room(Urgency::kPrompt));
}

TEST_F(FaultsTest, ServerThatIsNotThereIsToldOnceAndFoundWhenItComes) {
  server_->kill();
  driven_ = std::make_unique<DrivenSink>(options_);
  ASSERT_TRUE(driven_->until([&] { return journal().disconnects == 1; }));
  EXPECT_EQ(journal().last_error.text,
            "cannot connect to redis at '127.0.0.1:" + std::to_string(server_->port()) +
                "': Connection refused");
  EXPECT_EQ(journal().last_class, "connection");
  for (int i = 0; i < 20; ++i) driven_->turn();
  EXPECT_EQ(journal().disconnects, 1);
  server_->start_again();
  EXPECT_TRUE(driven_->until_connected());
}

// Told once, and shown as it is now.
TEST_F(FaultsTest, TheProblemIsWhatKeepsUsAwayNow) {
  connect();
  server_->kill();
  ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().problem.value_or("").find("Connection refused") != std::string::npos; }))
      << driven_->sink().status().problem.value_or("no problem");
  EXPECT_THAT(journal().last_error.text, HasSubstr("lost redis at"));
  EXPECT_EQ(journal().disconnects, 1);
}

TEST_F(FaultsTest, UnknownHost) {
  options_.url = "redis://no-such-host.invalid:6379";
  driven_ = std::make_unique<DrivenSink>(options_);
  ASSERT_TRUE(driven_->until([&] { return journal().disconnects == 1; }));
  EXPECT_THAT(journal().last_error.text,
              HasSubstr("cannot look up redis at 'no-such-host.invalid:6379': "));
  EXPECT_FALSE(journal().failed) << "a resolver may be down for a while";
}

// A server that takes the connection and says nothing, or nonsense.
class BadServer {
 public:
  BadServer() {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&where), sizeof(where)), 0);
    socklen_t length = sizeof(where);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&where), &length);
    port = ntohs(where.sin_port);
    EXPECT_EQ(::listen(listener_, 8), 0);
  }
  ~BadServer() {
    ::close(listener_);
    if (peer_ >= 0) ::close(peer_);
  }
  void accept_and_say(std::string_view bytes) {
    peer_ = ::accept(listener_, nullptr, nullptr);
    ::send(peer_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  // At once, with what was sent to us unread: a reset.
  void hang_up() {
    ::close(peer_);
    peer_ = -1;
  }
  int port = 0;

 private:
  int listener_ = -1;
  int peer_ = -1;
};

TEST_F(FaultsTest, SilentServerIsGivenUp) {
  BadServer bad;
  options_.url = "redis://127.0.0.1:" + std::to_string(bad.port);
  options_.command_timeout = milliseconds(100);
  driven_ = std::make_unique<DrivenSink>(options_);
  ASSERT_TRUE(driven_->until([&] { return journal().disconnects == 1; }));
  EXPECT_EQ(journal().last_class, "timeout");
}

TEST_F(FaultsTest, WhatRedisSaysBeforeItHangsUpIsTold) {
  BadServer bad;
  options_.url = "redis://127.0.0.1:" + std::to_string(bad.port);
  driven_ = std::make_unique<DrivenSink>(options_);
  driven_->turn();
  bad.accept_and_say("-DENIED Redis is running in protected mode because ...\r\n");
  bad.hang_up();
  ASSERT_TRUE(driven_->until([&] { return journal().disconnects == 1; }));
  EXPECT_EQ(journal().last_class, "protected");
  EXPECT_THAT(journal().last_error.text, HasSubstr("Redis is running in protected mode"));
  // Since Redis 7 'bind' does not end it, and a user beside the default one never did.
  EXPECT_THAT(journal().last_error.hint, HasSubstr("requirepass"));
  EXPECT_THAT(journal().last_error.hint, Not(HasSubstr("bind")));
  EXPECT_FALSE(journal().failed);
}

TEST_F(FaultsTest, NonsenseIsAProtocolError) {
  BadServer bad;
  options_.url = "redis://127.0.0.1:" + std::to_string(bad.port);
  driven_ = std::make_unique<DrivenSink>(options_);
  driven_->turn();
  bad.accept_and_say("HTTP/1.1 400 Bad Request\r\n\r\n");
  ASSERT_TRUE(driven_->until([&] { return journal().disconnects == 1; }));
  EXPECT_EQ(journal().last_class, "protocol");
}

TEST_F(FaultsTest, RecordThatCannotBeReadIsTold) {
  server_->client().set("evictd:record:evictd", "hello");
  connect();
  EXPECT_FALSE(journal().last_connected.record.has_value());
  EXPECT_EQ(driven_->sink().status().state,
            "ready (the record 'evictd:record:evictd' is unreadable: expected 'end' at the end "
            "of the record)");
}

// Whoever may write it can make it any length: that must not keep evictd out for as long as it lies there.
TEST_F(FaultsTest, RecordThatIsTooLongIsNoneToBeRead) {
  server_->client().set("evictd:record:evictd", "evictd-record 3\n" + std::string(17 << 20, 'x'));
  connect();
  EXPECT_FALSE(journal().last_connected.record.has_value());
  EXPECT_THAT(driven_->sink().status().state, HasSubstr("the record 'evictd:record:evictd' is unreadable: expected at most 4194304 bytes, got 17825808"));
  driven_->sink().load_record(1);
  ASSERT_TRUE(driven_->until([&] { return journal().records_loaded.size() == 1; }));
  EXPECT_EQ(journal().disconnects, 0);
}

TEST_F(FaultsTest, StatusTellsEvictedKeysAndFills) {
  connect();
  ASSERT_TRUE(driven_->until([&] { return !driven_->sink().status().fills.empty(); }));
  EXPECT_EQ(driven_->sink().status().evicted_keys, 0u);
  EXPECT_EQ(driven_->sink().status().fills.front(),
            (std::pair<std::string, std::uint64_t>("stored", 0)));
}

SinkContext of_one_writer() {
  SinkContext context{"epoch/1", milliseconds(0)};
  context.is_record_ours_alone = true;
  return context;
}

// The connection outlives it: nothing but the record tells.
TEST_F(FaultsTest, DataThatWasExchangedUnderAnOpenConnectionIsJudgedLikeAServerThatCameBack) {
  connect();
  driven_->sink().set_context(of_one_writer());
  Record record = numbered(Record{}, 1);
  record.writer = "ours";
  server_->client().command({"SELECT", "1"});
  server_->client().command({"SET", record_key("evictd"), record_to_text(record)});
  server_->client().command({"SELECT", "0"});
  const auto save = [&](std::uint64_t sequence) { return is_saved(record, sequence); };
  EXPECT_TRUE(save(1));
  EXPECT_TRUE(save(2));
  struct {
    std::vector<std::string> command;
    std::optional<std::uint64_t> there;  // sequence of the record that it brings; 0: none
  } exchanges[] = {
      {{"FLUSHDB"}, 0},
      {{"SWAPDB", "0", "1"}, 1},
      {{"DEL", record_key("evictd")}, 0},
      {{"SET", record_key("evictd"), "something else"}, 0},
      {{"LPUSH", record_key("evictd") + ":list", "x"}, {}},
      {{"RENAME", record_key("evictd") + ":list", record_key("evictd")}, 0},
  };
  std::uint64_t sequence = 2;
  for (const auto& exchange : exchanges) {
    server_->client().command(exchange.command);
    if (!exchange.there) continue;
    EXPECT_FALSE(save(++sequence)) << exchange.command.front();
    EXPECT_EQ(journal().last_class, "set_back");
    EXPECT_THAT(journal().last_error.text, HasSubstr("was flushed, swapped or loaded anew: the record in it is not the one that was written last"));
    const int connects = journal().connects;
    ASSERT_TRUE(driven_->until([&] { return journal().connects > connects || driven_->sink().status().connected; }));
    const auto& found = journal().last_connected.record;  // and so it is judged
    EXPECT_EQ(found ? found->sequence : 0, *exchange.there) << exchange.command.front();
    EXPECT_TRUE(save(++sequence)) << "known from here on";
  }
  // An older one of ours: a dump that was loaded, a database that was swapped in.
  Record older = record;
  older.sequence = 1;
  server_->client().command({"SET", record_key("evictd"), record_to_text(older)});
  EXPECT_FALSE(save(++sequence));
  ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().connected; }));
  ASSERT_TRUE(journal().last_connected.record.has_value());
  EXPECT_EQ(journal().last_connected.record->sequence, 1u);
}

// Daemons of a group: a record of another one's is no sign of anything, none is.
TEST_F(FaultsTest, OfARecordThatIsSharedOnlyItsAbsenceTells) {
  for (const bool is_deletes_only : {false, true}) {
    connect();
    SinkContext context{"", milliseconds(0)};
    context.is_record_shared = true;
    context.is_deletes_only = is_deletes_only;
    driven_->sink().set_context(context);
    Record record = numbered(Record{}, 1);
    record.writer = "ours";
    const auto save = [&](std::uint64_t sequence) { return is_saved(record, sequence); };
    EXPECT_TRUE(save(7));
    Record another = numbered(Record{}, 2);
    another.writer = "theirs";
    server_->client().command({"SET", record_key("evictd"), record_to_text(another)});
    EXPECT_TRUE(save(8));
    server_->client().command({"FLUSHDB"});
    EXPECT_FALSE(save(9));
    EXPECT_EQ(journal().last_class, "set_back");
    ASSERT_TRUE(driven_->until([&] { return driven_->sink().status().connected; }));
    EXPECT_FALSE(journal().last_connected.record);
    EXPECT_TRUE(save(10));
  }
}

// Two daemons of two databases, with the slot's default name, and one Redis: each write of the one is no reason for a purge by the other.
TEST_F(FaultsTest, TheRecordOfAnotherDatabaseThatIsStillWrittenIsJudgedOnceAndTold) {
  connect();
  driven_->sink().set_context(of_one_writer());
  Record record = numbered(Record{}, 8);
  record.writer = "ours";
  Record another = numbered(Record{}, 1);
  another.writer = "theirs";
  another.epoch = "another/1";
  const auto save = [&] {
    ++record.sequence;
    const auto saved = journal().records_saved.size();
    const int ended = journal().disconnects;
    driven_->sink().save_record(record);
    EXPECT_TRUE(driven_->until([&] { return journal().records_saved.size() > saved || journal().disconnects > ended; }));
    return journal().records_saved.size() > saved;
  };
  EXPECT_TRUE(save());
  server_->client().set(record_key("evictd"), record_to_text(another));
  EXPECT_FALSE(save());
  const int connects = journal().connects;
  ASSERT_TRUE(driven_->until([&] { return journal().connects > connects || driven_->sink().status().connected; }));
  EXPECT_THAT(driven_->sink().status().problem.value_or(""), HasSubstr("another evictd, which follows another database, writes the same record"));
  EXPECT_TRUE(save());
  server_->client().set(record_key("evictd"), record_to_text(another));
  EXPECT_TRUE(save());
}

// Whoever wrote it before us may have had one more under way; an earlier one of theirs is from another time.
TEST_F(FaultsTest, ALaterRecordOfAnothersIsNoExchange) {
  Record former = numbered(Record{}, 7);
  former.writer = "theirs";
  server_->client().set(record_key("evictd"), record_to_text(former));
  connect();
  driven_->sink().set_context(of_one_writer());
  former.sequence = 8;
  server_->client().set(record_key("evictd"), record_to_text(former));
  driven_->sink().save_record(numbered(Record{}, 8));
  EXPECT_TRUE(driven_->until([&] { return !journal().records_saved.empty(); }));
  EXPECT_EQ(journal().disconnects, 0);
  former.sequence = 7;
  server_->client().set(record_key("evictd"), record_to_text(former));
  driven_->sink().save_record(numbered(Record{}, 9));
  EXPECT_TRUE(driven_->until([&] { return journal().disconnects == 1; }));
}

TEST_F(FaultsTest, ARecordThatOthersWriteTooIsNotCompared) {
  connect();
  driven_->sink().save_record(numbered(Record{}, 1));
  ASSERT_TRUE(driven_->until([&] { return journal().records_saved.size() == 1; }));
  Record theirs = numbered(Record{}, 3);
  theirs.writer = "theirs";
  server_->client().set(record_key("evictd"), record_to_text(theirs));
  driven_->sink().save_record(numbered(Record{}, 2));
  EXPECT_TRUE(driven_->until([&] { return journal().records_saved.size() == 2; }));
  EXPECT_EQ(journal().disconnects, 0);
}

TEST_F(FaultsTest, RecordIsNobodysMarker) {
  connect();
  driven_->sink().save_record(numbered(Record{}, 1));
  ASSERT_TRUE(driven_->until([&] { return !journal().records_saved.empty(); }));
  const std::string own = record_key("evictd");
  const std::string stored = server_->client().get(own);
  OrderBuilder keys(Act::kInvalidate);
  keys.key("record:{evictd}", {10}).key("record:evictd", {10}).key("{evictd}", {10});
  expect_counts(driven_->run(keys), 0, 3, 0, 0);
  EXPECT_EQ(server_->client().get(own), stored);
}

TEST_F(FaultsTest, RowThatSpellsAKeyOfEvictdsOwnTouchesNothing) {
  connect();
  driven_->sink().save_record(numbered(Record{}, 1));
  ASSERT_TRUE(driven_->until([&] { return !journal().records_saved.empty(); }));
  const std::string own = record_key("evictd");
  const std::string stored = server_->client().get(own);
  server_->client().set("a", "v");
  server_->client().set("b", "v");
  OrderBuilder keys(Act::kInvalidate);
  keys.trusting().key("a", {10}).key(own, {10}).key("evictd:purged", {10}).key("b", {10});
  expect_counts(driven_->run(keys), 2, 2, 0, 0);
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).trusting().key("evictd:{a}", {11})), 0, 1, 0, 0);
  EXPECT_EQ(server_->client().get(own), stored);
  EXPECT_EQ(server_->client().get("evictd:{a}"), "t epoch/1 10");
  EXPECT_FALSE(server_->client().exists("evictd:purged"));
  EXPECT_EQ(driven_->sink().status().state, "ready (left alone: 3 keys of evictd's own)");
}

TEST_F(FaultsTest, MemberOfATagThatTheAclForbidsIsLeftAloneAndHoldsNothingUp) {
  server_->client().command({"ACL", "SETUSER", "daemon", "on", ">pw", "~product:*", "~tag:*", "~evictd:*", "+@all"});
  options_.url = "redis://daemon:pw@127.0.0.1:" + std::to_string(server_->port());
  connect();
  std::vector<std::string> add = {"SADD", "tag:t", "session:admin", "session:root"};
  for (int i = 0; i < 300; ++i) {
    add.push_back("product:" + std::to_string(i));
    server_->client().set(add.back(), "v");
  }
  server_->client().command(add);
  server_->client().set("session:admin", "v");
  const Outcome outcome =
      driven_->run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("t", {10}));
  EXPECT_EQ(outcome.deleted, 300u);
  EXPECT_TRUE(server_->client().exists("session:admin"));
  EXPECT_EQ(journal().disconnects, 0);
  EXPECT_EQ(driven_->sink().status().state, "ready (left alone: 2 members of tags that the ACL forbids)");
}

TEST_F(FaultsTest, KeyOfATagThatIsNoSetIsDeletedAndCounted) {
  connect();
  server_->client().command({"LPUSH", "tag:t", "product:1"});
  driven_->run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("t", {10}));
  EXPECT_FALSE(server_->client().exists("tag:t"));
  EXPECT_EQ(driven_->sink().status().state,
            "ready (deleted 1 keys of tags that were no sets: what was to be listed there is found by nobody)");
}

TEST_F(FaultsTest, MemberOfATagThatNoRuleMayTouchIsLeftAlone) {
  options_.may_touch = [](std::string_view key) { return key.starts_with("product:"); };
  connect();
  server_->client().command({"SADD", "tag:t", "session:admin", "product:1", "evictd:purged"});
  server_->client().set("session:admin", "v");
  server_->client().set("product:1", "v");
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("t", {10})), 1, 0, 0, 0);
  EXPECT_TRUE(server_->client().exists("session:admin"));
  EXPECT_EQ(driven_->sink().status().state, "ready (left alone: 1 members of tags that no rule may touch)");
}

TEST_F(FaultsTest, MembersOfATagThatAreHugeAreThrownAwayAsTheyCome) {  // G8
  connect();
  server_->client().set("product:1", "v");
  server_->client().command({"SADD", "tag:t", "product:1"});
  for (char c = 'a'; c < 'd'; ++c) {
    server_->client().command(std::vector<std::string>{"SADD", "tag:t", std::string(20 * 1024 * 1024, c)});
  }
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate, Target::kTags).trusting().key("t", {10})), 1, 0, 0, 0);
  EXPECT_EQ(journal().disconnects, 0);
  EXPECT_EQ(driven_->sink().status().state, "ready (left alone: 3 names longer than 64 KiB)");
}

TEST_F(FaultsTest, ListenerOfAUnixSocketThatClosesIsAFailedTry) {
  const std::string path = server_->directory() + "/gone.sock";
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un where{};
  where.sun_family = AF_UNIX;
  path.copy(where.sun_path, sizeof(where.sun_path) - 1);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&where), sizeof(where)), 0);
  ASSERT_EQ(::listen(listener, 8), 0);
  options_.url = "unix://" + path;
  driven_ = std::make_unique<DrivenSink>(options_);
  driven_->sink().step(read_clocks(), journal());  // connects
  ::close(listener);
  ASSERT_TRUE(driven_->until([&] { return journal().disconnects == 1; }));
  EXPECT_FALSE(journal().failed);
}

TEST_F(FaultsTest, UnixSocket) {
  const std::string path = server_->directory() + "/redis.sock";
  server_->kill();
  server_->set_settings({"--unixsocket", path});
  server_->start_again();
  options_.url = "unix://" + path + "?db=1";
  connect();
  expect_counts(driven_->run(OrderBuilder(Act::kInvalidate).trusting().key("k", {10})), 0, 1, 0, 0);
  EXPECT_FALSE(server_->client().exists("evictd:{k}")) << "database 0 is not ours";
}

}  // namespace
}  // namespace evictd::testing
