// What the nodes of a cluster say, and what copies of the record prove.
#include <gmock/gmock.h>

#include "daemon/sinks/redis/resp.h"
#include "daemon/sinks/redis/topology/record_copies.h"
#include "daemon/sinks/redis/topology/slot_map.h"

namespace evictd {
namespace {

using ::testing::ElementsAre;

Reply text(std::string value) {
  Reply reply;
  reply.kind = Reply::Kind::kText;
  reply.text = std::move(value);
  return reply;
}
Reply number(std::int64_t value) {
  Reply reply;
  reply.kind = Reply::Kind::kInteger;
  reply.integer = value;
  return reply;
}
Reply list(std::vector<Reply> elements) {
  Reply reply;
  reply.kind = Reply::Kind::kArray;
  reply.elements = std::move(elements);
  return reply;
}
Reply range(int first, int last, const std::string& host, int port) {
  return list({number(first), number(last), list({text(host), number(port), text("id")})});
}

TEST(SlotMap, IsWhatTheNodesSay) {
  const auto map = SlotMap::read(list({range(0, 99, "10.0.0.1", 7000), range(100, 16383, "", 7001)}), HostPort{"10.0.0.9", 1});
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(map->owner(99)->to_string(), "10.0.0.1:7000");
  EXPECT_EQ(map->owner(100)->to_string(), "10.0.0.9:7001") << "a node that does not know its name is the one that was asked";
  EXPECT_TRUE(map->unserved().none());
  EXPECT_EQ(ranges_text(map->slots_of(*map->owner(0))), "0-99");
  SlotMap moved = *map;
  moved.moved(5, HostPort{"10.0.0.9", 7001});
  EXPECT_EQ(ranges_text(moved.slots_of(*map->owner(0))), "0-4,6-99");
  EXPECT_FALSE(moved == *map);
}

TEST(SlotMap, ReplicasAreKnownOnceAndDecideNothing) {
  const auto with_replicas = [](Reply made, std::vector<Reply> replicas) {
    for (Reply& replica : replicas) made.elements.push_back(std::move(replica));
    return made;
  };
  const Reply one = list({text("10.0.0.2"), number(7000), text("id")});
  const HostPort asked{"10.0.0.1", 7000};
  const auto map = SlotMap::read(list({with_replicas(range(0, 99, "10.0.0.1", 7000), {one, list({text("10.0.0.3"), number(7000), text("id")})}),
                                       with_replicas(range(200, 16383, "10.0.0.1", 7000), {one, text("no node"), list({text("a"), number(0)})})}),
                                 asked);
  ASSERT_TRUE(map.has_value());
  EXPECT_THAT(map->replicas(), ElementsAre(HostPort{"10.0.0.2", 7000}, HostPort{"10.0.0.3", 7000}));
  EXPECT_THAT(map->masters(), ElementsAre(asked));
  EXPECT_TRUE(*map == *SlotMap::read(list({range(0, 99, "10.0.0.1", 7000), range(200, 16383, "10.0.0.1", 7000)}), asked));
}

// 'cluster-preferred-endpoint-type hostname' without hostnames: three hosts, on each the same port.
TEST(SlotMap, NodesThatAreToHaveNamesAndHaveNoneAreKnownByTheirAddresses) {
  const auto nameless = [](int first, int last, const char* ip, int port) {
    Reply made = range(first, last, "?", port);
    Reply& node = made.elements[2];
    node.elements.push_back(list({text("ip"), text(ip)}));
    return made;
  };
  const HostPort asked{"10.0.0.1", 6379};
  const auto map = SlotMap::read(list({nameless(0, 99, "10.0.0.1", 6379), nameless(100, 199, "10.0.0.2", 6379), nameless(200, 16383, "10.0.0.3", 7000)}), asked);
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(map->owner(100)->to_string(), "10.0.0.2:6379");
  EXPECT_EQ(map->masters().size(), 3u);
  EXPECT_EQ(map->located({"?", 7000}, asked)->to_string(), "10.0.0.3:7000") << "the only one of that port";
  EXPECT_FALSE(map->located({"?", 6379}, asked)) << "one of two";
  EXPECT_EQ(map->located({"", 6380}, asked)->to_string(), "10.0.0.1:6380");
  EXPECT_EQ(map->located({"a", 1}, asked)->to_string(), "a:1");
}

TEST(SlotMap, IsNothingElse) {
  const HostPort asked{"a", 1};
  EXPECT_FALSE(SlotMap::read(text("x"), asked));
  EXPECT_FALSE(SlotMap::read(list({text("x")}), asked));
  EXPECT_FALSE(SlotMap::read(list({range(0, 16384, "a", 1)}), asked));
  EXPECT_FALSE(SlotMap::read(list({range(-1, 1, "a", 1)}), asked));
  EXPECT_FALSE(SlotMap::read(list({range(0, 1, "a", 0)}), asked));
  EXPECT_FALSE(SlotMap::read(list({range(0, 1, "a", 65536)}), asked));
  EXPECT_EQ(SlotMap::read(list({}), asked)->unserved().count(), kSlots);
}

// CLUSTER RESET there, and no replica: the others keep it in mind, without an address.
TEST(SlotMap, AMasterWhoseAddressNobodyKnowsServesNothing) {
  const auto map = SlotMap::read(list({range(0, 99, "a", 1), range(100, 199, "", 0), range(200, 299, "?", 0), range(300, 16383, "b", 1)}), HostPort{"a", 1});
  ASSERT_TRUE(map.has_value());
  EXPECT_EQ(ranges_text(map->unserved()), "100-299");
  EXPECT_EQ(map->masters().size(), 2u);
  EXPECT_EQ(read_redirect("MOVED 100 :0")->kind, Redirect::Kind::kDown);
}

TEST(SlotMap, RangesAreReadAsTheyAreWritten) {
  for (const std::string_view ranges : {"", "0", "0-16383", "3,7-9,16383"}) EXPECT_EQ(ranges_text(slots_from_ranges(ranges).value()), ranges);
  for (const std::string_view wrong : {"x", "1-", "-1", "16384", "1-16384", "1;2"}) EXPECT_FALSE(slots_from_ranges(wrong)) << wrong;
}

TEST(Redirect, SaysWhereTo) {
  const auto moved = read_redirect("MOVED 3999 127.0.0.1:6381").value();
  EXPECT_EQ(moved.kind, Redirect::Kind::kMoved);
  EXPECT_EQ(moved.slot, 3999);
  EXPECT_EQ(moved.to.to_string(), "127.0.0.1:6381");
  EXPECT_EQ(read_redirect("ASK 1 ::1:6381")->to.host, "::1");
  EXPECT_EQ(read_redirect("MOVED 1 :6381")->to.host, "") << "that of who said so";
  EXPECT_EQ(read_redirect("TRYAGAIN Multiple keys request during rehashing of slot")->kind, Redirect::Kind::kTryAgain);
  EXPECT_EQ(read_redirect("CLUSTERDOWN Hash slot not served")->kind, Redirect::Kind::kDown);
  for (const std::string_view other : {"ERR x", "MOVED", "MOVED x y", "MOVED 16384 a:1", "ASK 1 a", "ASK 1 a:0", "WRONGTYPE"}) {
    EXPECT_FALSE(read_redirect(other)) << other;
  }
}

TEST(OwnSlots, AreThoseOfTheNodeThatWasAsked) {
  const std::string_view nodes =
      "aa 127.0.0.1:1@2 master - 0 1 1 connected 0-5\n"
      "bb 127.0.0.1:3@4 myself,master - 0 0 7 connected 6-9 [7->-aa]\n";
  EXPECT_EQ(own_slots(nodes), "7 connected 6-9 [7->-aa]");
  EXPECT_TRUE(has_open_slot(own_slots(nodes)));
  EXPECT_EQ(own_slots("aa 127.0.0.1:1@2 master - 0 1 1 connected"), "");
}

// ------------------------------------------------------------- Copies

SlotSet slots(std::string_view ranges) { return slots_from_ranges(ranges).value(); }
RecordCopy copy(std::uint64_t sequence, std::string_view home, int written = 1, const std::string& writer = "w") {
  RecordCopy made;
  made.written = std::chrono::milliseconds(written);
  made.home = slots(home);
  made.record.writer = writer;
  made.record.sequence = sequence;
  return made;
}

TEST(RecordCopies, TravelAsText) {
  Record record;
  record.writer = "0123";
  record.sequence = 7;
  record.epoch = "1/1";
  record.gaps = {"slot_lost"};
  const std::string text = copy_to_text(std::chrono::milliseconds(1700), slots("0-5,9"), record);
  const auto read = copy_from_text(text).value();
  EXPECT_EQ(read.record, record);
  EXPECT_EQ(read.home, slots("0-5,9"));
  EXPECT_EQ(read.written.count(), 1700);
  for (std::size_t cut = 0; cut < text.size() - 1; ++cut) EXPECT_FALSE(copy_from_text(text.substr(0, cut))) << cut;
}

TEST(RecordCopies, LieWhereTheyLayAndElseInTheMiddle) {
  EXPECT_EQ(copy_slot(slots("0-5460"), std::nullopt), 2752);
  EXPECT_EQ(copy_slot(slots("0-5460"), Slot{64}), 64);
  EXPECT_EQ(copy_slot(slots("65-70"), Slot{64}), 65) << "none that is looked at by others: its first";
}

TEST(RecordCopies, OfOneRecordLoseNothing) {
  const auto judged = judge_copies({{slots("0-99"), {copy(7, "0-99")}}, {slots("100-16383"), {copy(6, "100-16383")}}}, std::nullopt);
  EXPECT_EQ(judged.record->sequence, 6u) << "what both have";
  EXPECT_TRUE(judged.lost.none());
}

TEST(RecordCopies, AnOlderOneLosesItsSlotsAlone) {
  const std::vector<ShardCopies> shards = {{slots("0-99"), {copy(7, "0-99", 2)}}, {slots("100-16383"), {copy(5, "100-16383")}}};
  const auto judged = judge_copies(shards, std::nullopt);
  EXPECT_EQ(judged.record->sequence, 7u);
  EXPECT_EQ(ranges_text(judged.lost), "100-16383");
}

TEST(RecordCopies, OneBehindIsLostWhereMoreIsKnownToBeStored) {
  const std::vector<ShardCopies> shards = {{slots("0-99"), {copy(7, "0-99", 2)}}, {slots("100-16383"), {copy(6, "100-16383")}}};
  EXPECT_EQ(ranges_text(judge_copies(shards, StoredRecord{"w", 7}).lost), "100-16383");
  EXPECT_TRUE(judge_copies(shards, StoredRecord{"another", 7}).lost.none());
}

TEST(RecordCopies, NoneAtAllIsLostWhereOthersHaveOne) {
  const auto judged = judge_copies({{slots("0-99"), {copy(7, "0-99")}}, {slots("100-16383"), {}}}, std::nullopt);
  EXPECT_EQ(ranges_text(judged.lost), "100-16383");
  EXPECT_FALSE(judge_copies({{slots("0-16383"), {}}}, std::nullopt).record) << "a first start";
}

TEST(RecordCopies, ProveTheirHomeAndNothingThatCameLater) {
  // Slot 100 came from a master that has gone; so did its copy.
  const auto judged = judge_copies({{slots("0-100"), {copy(7, "0-99"), copy(3, "100-16383")}}, {slots("101-16383"), {copy(7, "100-16383")}}}, std::nullopt);
  EXPECT_EQ(ranges_text(judged.lost), "100");
}

// A copy that came with a slot of another master says nothing of the slots that were here before.
TEST(RecordCopies, OfAnotherMasterProveNothingOfThisOne) {
  const auto judged = judge_copies({{slots("0-100"), {copy(5, "0-99"), copy(7, "100-16383")}}, {slots("101-16383"), {copy(7, "100-16383")}}}, std::nullopt);
  EXPECT_EQ(ranges_text(judged.lost), "0-99");
}

TEST(RecordCopies, OfTwoWritersTheLaterOneCounts) {
  const auto judged = judge_copies({{slots("0-99"), {copy(900, "0-99", 1, "old")}}, {slots("100-16383"), {copy(3, "100-16383", 5, "new")}}}, std::nullopt);
  EXPECT_EQ(judged.record->writer, "new");
  EXPECT_EQ(ranges_text(judged.lost), "0-99");
}

TEST(RecordCopies, ThatAllLostTheLastOneAreLeftToTheLedger) {
  const auto judged = judge_copies({{slots("0-16383"), {copy(5, "0-16383")}}}, StoredRecord{"w", 9});
  EXPECT_EQ(judged.record->sequence, 5u);
  EXPECT_TRUE(judged.lost.none());
}

TEST(RecordCopies, GapsOfAnyOneStayOpen) {
  RecordCopy later = copy(7, "0-99");
  later.record.gaps = {"slot_lost"};
  const auto judged = judge_copies({{slots("0-99"), {later}}, {slots("100-16383"), {copy(6, "100-16383")}}}, std::nullopt);
  EXPECT_THAT(judged.record->gaps, ElementsAre("slot_lost"));
}

}  // namespace
}  // namespace evictd
