// Copies of the record on their way to the masters of a cluster, and back.
#include <gmock/gmock.h>

#include <algorithm>

#include "daemon/sinks/redis/cluster/copy_reader.h"
#include "daemon/sinks/redis/cluster/copy_writer.h"
#include "daemon/sinks/redis/scripts.h"
#include "tests/unit/sinks/redis/sink_fixture.h"

namespace evictd {
namespace {

using testing::numbered_record;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using std::chrono::milliseconds;

const HostPort kA{"a", 1};
const HostPort kB{"b", 1};
constexpr std::string_view kFull = "OOM command not allowed when used memory > 'maxmemory'.";

SlotMap split(std::size_t slots) {
  SlotMap map;
  for (std::size_t slot = 0; slot < kSlots; ++slot) map.moved(static_cast<Slot>(slot), slot < slots ? kA : kB);
  return map;
}
Reply ok() { return Reply{Reply::Kind::kStatus, 0, "OK", {}}; }
Reply number(std::size_t value) { return Reply{Reply::Kind::kInteger, static_cast<std::int64_t>(value), {}, {}}; }
Reply text(std::string value) { return Reply{Reply::Kind::kText, 0, std::move(value), {}}; }
Reply nothing() { return Reply{}; }

class Routes final : public CallRoutes {
 public:
  void send(Call call) override {
    if (const HostPort* owner = map.owner(call.slot)) call.served_by = *owner;
    sent.push_back(std::move(call));
  }
  const SlotMap& slots() const override { return map; }
  std::vector<Call> take() { return std::exchange(sent, {}); }

  SlotMap map = split(8000);
  std::vector<Call> sent;
};

class CopyWriterTest : public ::testing::Test {
 protected:
  std::string text_of(std::uint64_t sequence, const HostPort& master) const {
    return copy_to_text(milliseconds(7), routes_.map.slots_of(master), numbered_record(sequence));
  }
  bool refused(const Call& call, std::string_view error) { return writer_.on_error(call, error, about_, now_); }

  Routes routes_;
  CopyWriter writer_{routes_, "record"};
  std::string about_;
  SteadyTime now_{std::chrono::hours(1)};
};

TEST_F(CopyWriterTest, ARecordIsStoredWhenEachOfItsCopiesIs) {
  writer_.save(numbered_record(3), milliseconds(7), {});
  const std::vector<Call> calls = routes_.take();
  ASSERT_THAT(calls, SizeIs(2));
  EXPECT_EQ(calls[0].script, Script::kSaveRecord);
  EXPECT_THAT(calls[0].bytes, HasSubstr(text_of(3, kA)));
  EXPECT_THAT(calls[1].bytes, HasSubstr(text_of(3, kB)));
  EXPECT_EQ(calls[1].slot, writer_.slot_of(kB));
  EXPECT_TRUE(writer_.on_reply(calls[0], number(text_of(3, kA).size())));
  EXPECT_FALSE(writer_.take_stored());
  EXPECT_FALSE(writer_.on_reply(calls[1], number(1))) << "not all of it";
  EXPECT_FALSE(writer_.on_reply(calls[1], ok())) << "no script says so";
  EXPECT_TRUE(writer_.on_reply(calls[1], number(text_of(3, kB).size())));
  const auto stored = writer_.take_stored();
  ASSERT_TRUE(stored);
  EXPECT_EQ(stored->writer, "writer");
  EXPECT_EQ(stored->sequence, 3u);
  EXPECT_FALSE(writer_.take_stored());
}

TEST_F(CopyWriterTest, AScriptThatIsRefusedIsADoubt) {
  writer_.save(numbered_record(3), milliseconds(7), {});
  EXPECT_FALSE(refused(routes_.take()[0], kFull));
  EXPECT_THAT(about_, HasSubstr("record"));
}

TEST_F(CopyWriterTest, WhereThereAreNoScriptsAFullMasterIsTriedWithOneAndThenAgainEachSecond) {
  writer_.save(numbered_record(3), milliseconds(7), {.may_use_scripts = false});
  const std::vector<Call> calls = routes_.take();
  ASSERT_THAT(calls, SizeIs(2));
  EXPECT_THAT(calls[0].bytes, HasSubstr("SET"));
  EXPECT_FALSE(calls[0].script);
  EXPECT_FALSE(refused(calls[0], "ERR unknown command"));
  EXPECT_FALSE(writer_.on_reply(calls[0], number(text_of(3, kA).size()))) << "no SET says so";
  EXPECT_TRUE(writer_.on_reply(calls[0], ok()));

  EXPECT_TRUE(refused(calls[1], kFull));
  EXPECT_FALSE(writer_.awaits(calls[1]));
  const std::vector<Call> script = routes_.take();
  ASSERT_THAT(script, SizeIs(1));
  EXPECT_THAT(script[0].bytes, HasSubstr("EVAL\r\n"));
  EXPECT_EQ(writer_.wake_at(), SteadyTime::max());
  EXPECT_TRUE(refused(script[0], "NOPERM this user has no permissions to run the 'eval' command")) << "whatever it says";
  EXPECT_EQ(writer_.full(), "b:1");
  EXPECT_EQ(writer_.wake_at(), now_ + std::chrono::seconds(1));
  EXPECT_FALSE(writer_.take_stored());

  writer_.retry(now_ + milliseconds(999));
  EXPECT_THAT(routes_.take(), IsEmpty());
  writer_.retry(now_ + milliseconds(1000));
  const std::vector<Call> again = routes_.take();
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_THAT(again[0].bytes, HasSubstr("SET"));
  EXPECT_EQ(writer_.wake_at(), SteadyTime::max());
  EXPECT_EQ(writer_.full(), "b:1") << "until all are stored";
  EXPECT_TRUE(writer_.on_reply(again[0], ok()));
  EXPECT_EQ(writer_.full(), "");
  EXPECT_EQ(writer_.take_stored()->sequence, 3u);
}

TEST_F(CopyWriterTest, ACopyStaysWhereItIsAsLongAsItsMasterHasThatSlot) {
  writer_.save(numbered_record(3), milliseconds(7), {});
  routes_.take();
  const Slot slot = writer_.slot_of(kB);
  routes_.map = split(12000);
  const SlotSet slots = routes_.map.slots_of(kB);
  ASSERT_TRUE(slots.test(slot));
  ASSERT_NE(copy_slot(slots, std::nullopt), slot) << "where another process would put it";
  EXPECT_EQ(writer_.slot_of(kB), slot);
  EXPECT_THAT(writer_.slots(), SizeIs(2));
  routes_.map.moved(slot, kA);
  EXPECT_NE(writer_.slot_of(kB), slot);
}

// Whoever was flushed would vouch for what it no longer has.
TEST_F(CopyWriterTest, ACopyIsStoredOnlyWhereTheOneBeforeItStillIs) {  // G6
  for (const bool may_use_scripts : {true, false}) {
    const CopyWriter::Means means{.may_use_scripts = may_use_scripts, .is_ours_alone = true};
    const auto stored = [&](std::uint64_t sequence, const HostPort& master) { return may_use_scripts ? number(text_of(sequence, master).size()) : ok(); };
    const std::string condition = may_use_scripts ? "\r\n$1\r\n3\r\n" : "\r\n$2\r\nXX\r\n";
    writer_.save(numbered_record(3), milliseconds(7), means);
    std::vector<Call> calls = routes_.take();
    EXPECT_THAT(calls[0].bytes, Not(EndsWith(condition))) << "what is there at first is not known";
    EXPECT_TRUE(writer_.on_reply(calls[0], stored(3, kA)));
    writer_.save(numbered_record(4), milliseconds(7), means);
    calls = routes_.take();
    EXPECT_THAT(calls[0].bytes, EndsWith(condition));
    EXPECT_THAT(calls[1].bytes, Not(EndsWith(condition))) << "whether it was stored is not known";
    EXPECT_TRUE(writer_.on_reply(calls[1], stored(4, kB)));
    EXPECT_FALSE(writer_.take_lost());
    EXPECT_TRUE(writer_.on_reply(calls[0], may_use_scripts ? Reply{Reply::Kind::kInteger, -1, {}, {}} : nothing()));
    EXPECT_EQ(writer_.take_lost(), kA);
    EXPECT_FALSE(writer_.take_stored());
    writer_.forget();
    writer_.save(numbered_record(5), milliseconds(7), means);
    EXPECT_THAT(routes_.take()[1].bytes, Not(EndsWith(condition))) << "of another connection";
    writer_.forget();
    writer_.save(numbered_record(3), milliseconds(7), {.may_use_scripts = may_use_scripts});
    EXPECT_TRUE(writer_.on_reply(routes_.take()[0], stored(3, kA)));
    writer_.save(numbered_record(4), milliseconds(7), {.may_use_scripts = may_use_scripts});
    EXPECT_THAT(routes_.take()[0].bytes, Not(EndsWith(condition))) << "nobody's record";
    writer_.forget();
    const CopyWriter::Means shared{.may_use_scripts = may_use_scripts, .is_shared = true};
    writer_.save(numbered_record(3), milliseconds(7), shared);
    EXPECT_TRUE(writer_.on_reply(routes_.take()[0], stored(3, kA)));
    writer_.save(numbered_record(2), milliseconds(7), shared);
    EXPECT_THAT(routes_.take()[0].bytes, EndsWith(may_use_scripts ? "\r\n$1\r\n1\r\n" : condition)) << "others write it, too: any will do";
    writer_.forget();
  }
}

// It may be flushed between the question and the first record of this process.
TEST_F(CopyWriterTest, ACopyIsStoredOnlyWhereTheOneThatWasReadStillIs) {  // G6
  const CopyWriter::Means means{.is_ours_alone = true};
  const auto asks_for = [&](const Call& call, const std::string& sequence) { return call.bytes.ends_with("\r\n$1\r\n" + sequence + "\r\n"); };
  writer_.found(kA, 100, 3);
  ASSERT_NE(copy_slot(routes_.map.slots_of(kA), std::nullopt), 100) << "where this process would have put it";
  writer_.save(numbered_record(4), milliseconds(7), means);
  std::vector<Call> calls = routes_.take();
  EXPECT_EQ(calls[0].slot, 100);
  EXPECT_TRUE(asks_for(calls[0], "3"));
  EXPECT_FALSE(asks_for(calls[1], "3")) << "nothing was found there";
  EXPECT_TRUE(writer_.on_reply(calls[0], number(text_of(4, kA).size())));
  writer_.found(kA, 100, 3);  // asked for before that
  writer_.save(numbered_record(5), milliseconds(7), means);
  calls = routes_.take();
  EXPECT_TRUE(asks_for(calls[0], "4"));
  EXPECT_TRUE(writer_.on_reply(calls[0], Reply{Reply::Kind::kInteger, -1, {}, {}}));
  EXPECT_EQ(writer_.take_lost(), kA);
  writer_.forget();
  writer_.found(kA, 200, 5);
  writer_.save(numbered_record(6), milliseconds(7), means);
  EXPECT_FALSE(asks_for(routes_.take()[0], "5")) << "that one lies elsewhere than the next";
  writer_.forget();
  routes_.map.moved(100, kB);
  writer_.found(kA, 200, 6);
  writer_.save(numbered_record(7), milliseconds(7), means);
  calls = routes_.take();
  EXPECT_EQ(calls[0].slot, 200);
  EXPECT_TRUE(asks_for(calls[0], "6"));
}

TEST_F(CopyWriterTest, NothingIsAskedOfASlotOrAMasterThatIsAnother) {
  const CopyWriter::Means means{.may_use_scripts = false, .is_ours_alone = true};
  const auto save_all = [&](std::uint64_t sequence) {
    writer_.save(numbered_record(sequence), milliseconds(7), means);
    std::vector<Call> calls = routes_.take();
    for (const Call& call : calls) EXPECT_TRUE(writer_.on_reply(call, ok()));
    return calls;
  };
  save_all(1);
  const Slot slot = writer_.slot_of(kB);
  routes_.map.moved(slot, kA);
  for (const Call& call : save_all(2)) EXPECT_EQ(call.bytes.ends_with("XX\r\n"), call.served_by == kA);
  routes_.map = split(kSlots);  // all slots are A's
  save_all(3);
  routes_.map = split(8000);
  routes_.map.moved(slot, kA);
  for (const Call& call : save_all(4)) EXPECT_EQ(call.bytes.ends_with("XX\r\n"), call.served_by == kA);
}

TEST_F(CopyWriterTest, ACopyOfAFormerRecordDoesNotCountForTheNextOne) {
  writer_.save(numbered_record(3), milliseconds(7), {.may_use_scripts = false});
  const std::vector<Call> former = routes_.take();
  EXPECT_TRUE(refused(former[1], kFull));
  const Call script = routes_.take()[0];
  EXPECT_TRUE(refused(script, kFull));
  writer_.save(numbered_record(4), milliseconds(7), {.may_use_scripts = false});
  const std::vector<Call> calls = routes_.take();
  EXPECT_FALSE(writer_.awaits(former[0]));
  writer_.retry(now_ + std::chrono::hours(1));
  EXPECT_THAT(routes_.take(), IsEmpty()) << "nor is one sent again";
  EXPECT_TRUE(writer_.on_reply(former[0], ok()));
  EXPECT_TRUE(writer_.on_reply(calls[0], ok()));
  EXPECT_FALSE(writer_.take_stored());
  EXPECT_TRUE(writer_.on_reply(calls[1], ok()));
  EXPECT_EQ(writer_.take_stored()->sequence, 4u);
}

TEST_F(CopyWriterTest, WhatIsLostIsAwaitedByNobody) {
  writer_.save(numbered_record(3), milliseconds(7), {.may_use_scripts = false});
  const std::vector<Call> calls = routes_.take();
  EXPECT_TRUE(refused(calls[0], kFull));
  const Call script = routes_.take()[0];
  EXPECT_TRUE(refused(script, kFull));
  EXPECT_TRUE(writer_.awaits(calls[1]));
  writer_.forget();
  EXPECT_FALSE(writer_.awaits(calls[1]));
  EXPECT_EQ(writer_.full(), "");
  writer_.retry(now_ + std::chrono::hours(1));
  EXPECT_THAT(routes_.take(), IsEmpty());
  EXPECT_TRUE(writer_.on_reply(calls[1], nothing())) << "it means nothing any more";
  EXPECT_TRUE(refused(calls[1], kFull));
  EXPECT_FALSE(writer_.take_stored());
}

class CopyReaderTest : public ::testing::Test {
 protected:
  std::string text_of(std::uint64_t sequence, const HostPort& master) const {
    return copy_to_text(milliseconds(7), routes_.map.slots_of(master), numbered_record(sequence));
  }
  std::vector<Call> ask() {
    reader_.ask({kOwn}, now_);
    return routes_.take();
  }
  // Each master has a copy in the slot where another process puts it.
  Reply held(const Call& call, std::uint64_t of_a, std::uint64_t of_b) const {
    if (call.slot == copy_slot(routes_.map.slots_of(kA), std::nullopt)) return text(text_of(of_a, kA));
    if (call.slot == copy_slot(routes_.map.slots_of(kB), std::nullopt)) return text(text_of(of_b, kB));
    return nothing();
  }
  void answer(const std::vector<Call>& calls, std::uint64_t of_a, std::uint64_t of_b) {
    for (const Call& call : calls) EXPECT_TRUE(reader_.on_reply(call, held(call, of_a, of_b), stored_));
  }

  static constexpr Slot kOwn = 77;
  Routes routes_;
  CopyReader reader_{routes_, "record"};
  std::optional<StoredRecord> stored_;
  SteadyTime now_{std::chrono::hours(1)};
};

TEST_F(CopyReaderTest, EverySlotThatACopyMayLieInIsAskedOnce) {
  const std::vector<Call> calls = ask();
  EXPECT_THAT(calls, SizeIs(kSlots / kCopySlotStep + 1));
  EXPECT_EQ(std::count_if(calls.begin(), calls.end(), [](const Call& call) { return call.slot == kOwn; }), 1);
  EXPECT_THAT(calls[0].bytes, HasSubstr("GET"));
  EXPECT_FALSE(reader_.is_due(now_ + std::chrono::hours(1))) << "under way";
  EXPECT_EQ(reader_.wake_at(), SteadyTime::max());
}

TEST_F(CopyReaderTest, TheCopiesAreJudgedWhenTheLastIsThere) {
  std::vector<Call> calls = ask();
  const Call last = calls.back();
  calls.pop_back();
  answer(calls, 4, 4);
  EXPECT_FALSE(reader_.take_judged());
  EXPECT_FALSE(reader_.on_reply(last, ok(), stored_)) << "no GET says so";
  EXPECT_FALSE(reader_.on_error(last, "ERR what", stored_));
  EXPECT_TRUE(reader_.on_error(last, "WRONGTYPE Operation against a key", stored_)) << "somebody else's: no copy";
  const auto judged = reader_.take_judged();
  ASSERT_TRUE(judged);
  EXPECT_EQ(judged->record->sequence, 4u);
  EXPECT_TRUE(reader_.lost().none());
  EXPECT_FALSE(reader_.take_judged());
}

TEST_F(CopyReaderTest, AMasterWithAnOlderCopyIsALostPart) {
  answer(ask(), 4, 2);
  EXPECT_EQ(reader_.take_judged()->lost, routes_.map.slots_of(kB));
  EXPECT_EQ(reader_.lost(), routes_.map.slots_of(kB));
}

TEST_F(CopyReaderTest, WhatThisProcessHasStoredIsTheLeastThatCounts) {
  stored_ = StoredRecord{"writer", 4};
  answer(ask(), 4, 3);
  EXPECT_EQ(reader_.take_judged()->lost, routes_.map.slots_of(kB)) << "without it, the last one may have been on its way";
}

TEST_F(CopyReaderTest, ARoundThatIsGivenUpIsAskedAnewAfterAPauseAndItsAnswersAreNobodys) {
  const std::vector<Call> former = ask();
  reader_.give_up_round();
  answer(former, 8, 8);
  EXPECT_FALSE(reader_.take_judged()) << "who served what may have changed since";
  EXPECT_FALSE(reader_.is_due(now_ + milliseconds(49)));
  EXPECT_EQ(reader_.wake_at(), now_ + milliseconds(50));
  now_ += milliseconds(50);
  const std::vector<Call> calls = ask();
  EXPECT_THAT(calls, SizeIs(former.size()));
  answer(former, 9, 9);
  EXPECT_FALSE(reader_.take_judged());
  answer(calls, 4, 4);
  EXPECT_EQ(reader_.take_judged()->record->sequence, 4u);
}

TEST_F(CopyReaderTest, WhatIsWantedIsAskedAtOnce) {
  const std::vector<Call> former = ask();
  reader_.want(12, now_);
  EXPECT_TRUE(reader_.is_wanted());
  const std::vector<Call> calls = ask();
  answer(former, 9, 9);
  EXPECT_FALSE(reader_.take_judged());
  answer(calls, 4, 4);
  EXPECT_TRUE(reader_.take_judged());
  EXPECT_EQ(reader_.take_wanted(), 12u);
  EXPECT_FALSE(reader_.is_wanted());
}

TEST_F(CopyReaderTest, WhatIsLostIsAnsweredToNobody) {
  reader_.want(12, now_);
  const std::vector<Call> calls = ask();
  reader_.forget();
  EXPECT_FALSE(reader_.is_wanted());
  answer(calls, 4, 4);
  EXPECT_FALSE(reader_.take_judged());
}

}  // namespace
}  // namespace evictd
