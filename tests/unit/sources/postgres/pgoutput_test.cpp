// The decoder, fed with bytes of a real server (tests/data/pgoutput/capture.py), cut at every byte,
// and with the few messages a server of today does not send.
#include "daemon/sources/postgres/pgoutput.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "tests/support/source_driver.h"

namespace evictd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::string> captured(const std::string& name) {
  std::ifstream file(std::string(EVICTD_TEST_DATA) + "/pgoutput/" + name + ".bin",
                     std::ios::binary);
  EXPECT_TRUE(file) << name;
  std::vector<std::string> messages;
  unsigned char length[4];
  while (file.read(reinterpret_cast<char*>(length), 4)) {
    std::string message((length[0] << 24) | (length[1] << 16) | (length[2] << 8) | length[3], '\0');
    file.read(message.data(), static_cast<std::streamsize>(message.size()));
    messages.push_back(std::move(message));
  }
  EXPECT_FALSE(messages.empty());
  return messages;
}

const char* const kCaptures[] = {"types",          "identity_default",      "identity_full",
                                 "identity_index", "truncate_and_messages", "ddl",
                                 "origin"};

// Writes down what it hears, and checks that relations live as long as changes speak of them.
class Recorder : public PgoutputReceiver {
 public:
  std::vector<std::string> heard;
  std::vector<BeginMessage> begins;
  std::vector<Lsn> commits;
  std::vector<std::uint64_t> generations;
  std::vector<std::vector<Column>> columns;
  std::set<std::uint64_t> gone;  // generations: an address may be used again

  void on_begin(const BeginMessage& begin) override { begins.push_back(begin); }
  void on_change(const Change& change) override {
    EXPECT_EQ(gone.count(change.relation->generation), 0u);
    if (!change.new_row.empty()) {
      EXPECT_EQ(change.new_row.size(), change.relation->columns.size());
    }
    if (!change.old_row.empty()) {
      EXPECT_EQ(change.old_row.size(), change.relation->columns.size());
    }
    heard.push_back(describe(change));
    generations.push_back(change.relation->generation);
    columns.push_back(change.relation->columns);
  }
  void on_commit(Lsn end) override { commits.push_back(end); }
  void on_relation_gone(const Relation& relation) override { gone.insert(relation.generation); }
  void on_logical_message(std::string_view prefix, std::string_view content) override {
    heard.push_back("message " + std::string(prefix) + ": " + std::string(content));
  }
};

struct Decoded {
  PgoutputDecoder decoder;
  Recorder recorder;

  std::string error;  // the first
  void feed(const std::vector<std::string>& messages) {
    for (const std::string& message : messages) feed(message);
  }
  void feed(std::string_view message) {
    const auto done = decoder.decode(Lsn{}, message, recorder);
    if (!done && error.empty()) error = done.error().text;
  }

 private:
};

TEST(Pgoutput, EveryTypeHasItsKindAndItsText) {
  Decoded d;
  d.feed(captured("types"));
  EXPECT_EQ(d.error, "");
  ASSERT_EQ(d.recorder.heard.size(), 2u);
  EXPECT_EQ(d.recorder.heard[0],
            "insert public.t new(id=1 b=t u=6f9619ff-8b86-d011-b42d-00c04fc964ff ts=2024-02-03 "
            "04:05:06.789"
            " tz=2024-02-03 02:05:06.789+00 d=2024-02-03 raw=\\xdeadbeef j={\"a\" : 1} jb={\"a\": "
            "1} n=1.00 txt=x:y fl=f"
            " c=ab    e=0.1)");
  EXPECT_EQ(d.recorder.heard[1],
            "insert public.t new(id=2 b=NULL u=NULL ts=NULL tz=NULL d=NULL raw=NULL j=NULL jb=NULL "
            "n=NULL txt=NULL fl=NULL"
            " c=NULL e=NULL)");
  std::vector<ValueType> types;
  for (const Column& column : d.recorder.columns[0]) types.push_back(column.type);
  EXPECT_THAT(types,
              ElementsAre(ValueType::kText, ValueType::kBoolean, ValueType::kUuid,
                          ValueType::kTimestamp, ValueType::kTimestampTz, ValueType::kDate,
                          ValueType::kBytea, ValueType::kJson, ValueType::kJson, ValueType::kText,
                          ValueType::kText, ValueType::kText, ValueType::kText, ValueType::kText));
}

TEST(Pgoutput, ADomainReadsLikeItsBaseType) {
  Decoded d;
  const auto messages = captured("types");
  // The column of the domain is described with the domain's own identifier, which its 'Y' message
  // names.
  Oid domain = 0;
  for (const std::string& message : messages) {
    if (message[0] != 'Y') continue;
    for (int i = 1; i <= 4; ++i)
      domain = (domain << 8) | static_cast<unsigned char>(message[static_cast<std::size_t>(i)]);
  }
  ASSERT_NE(domain, 0u);
  d.decoder.set_base_type(domain, 16);
  d.feed(messages);
  ASSERT_EQ(d.recorder.columns.size(), 2u);
  EXPECT_EQ(d.recorder.columns[0][11].name, "fl");
  EXPECT_EQ(d.recorder.columns[0][11].type, ValueType::kBoolean);
}

TEST(Pgoutput, PositionsAndTimesAreRead) {
  Decoded d;
  d.feed(captured("types"));
  ASSERT_EQ(d.recorder.begins.size(), 2u);
  ASSERT_EQ(d.recorder.commits.size(), 2u);
  EXPECT_GT(d.recorder.begins[0].xid, 0u);
  EXPECT_LT(d.recorder.begins[0].commit_lsn, d.recorder.commits[0]);
  EXPECT_LT(d.recorder.commits[0], d.recorder.commits[1]);
  // Between 2024 and 2100.
  EXPECT_GT(d.recorder.begins[0].commit_time.time_since_epoch(), std::chrono::hours(24 * 365 * 54));
  EXPECT_LT(d.recorder.begins[0].commit_time.time_since_epoch(),
            std::chrono::hours(24L * 365 * 130));
}

TEST(Pgoutput, ThePrimaryKeyAloneHasOldValues) {
  Decoded d;
  d.feed(captured("identity_default"));
  EXPECT_EQ(d.error, "");
  ASSERT_EQ(d.recorder.heard.size(), 4u);
  EXPECT_THAT(d.recorder.heard[0], StartsWith("insert public.t new(id=1 slug=a big="));
  EXPECT_EQ(d.recorder.heard[1], "update public.t new(id=1 slug=b big=~)");
  EXPECT_EQ(d.recorder.heard[2], "update public.t old(id=1 slug=- big=-) new(id=2 slug=b big=~)");
  EXPECT_EQ(d.recorder.heard[3], "delete public.t old(id=2 slug=- big=-)");
  EXPECT_TRUE(d.recorder.columns[0][0].in_identity);
  EXPECT_FALSE(d.recorder.columns[0][1].in_identity);
}

TEST(Pgoutput, FullIdentityFillsInWhatWasNotSentAgain) {
  Decoded d;
  d.feed(captured("identity_full"));
  EXPECT_EQ(d.error, "");
  ASSERT_EQ(d.recorder.heard.size(), 4u);
  const std::string big = d.recorder.heard[0].substr(d.recorder.heard[0].find("big="));
  ASSERT_GT(big.size(), 60u);
  EXPECT_EQ(d.recorder.heard[1],
            "update public.t old(id=1 slug=a " + big + " new(id=1 slug=NULL " + big);
  EXPECT_EQ(d.recorder.heard[3], "delete public.t old(id=2 slug=NULL " + big);
}

TEST(Pgoutput, AnIdentityIndexHidesThePrimaryKey) {
  Decoded d;
  d.feed(captured("identity_index"));
  EXPECT_EQ(d.error, "");
  EXPECT_THAT(d.recorder.heard,
              ElementsAre("insert public.t new(id=1 code=c slug=a)",
                          "update public.t new(id=1 code=c slug=b)",
                          "update public.t new(id=2 code=c slug=b)",
                          "update public.t old(id=- code=c slug=-) new(id=2 code=d slug=b)",
                          "delete public.t old(id=- code=d slug=-)"));
}

TEST(Pgoutput, TruncateNamesEveryTableItReached) {
  Decoded d;
  d.feed(captured("truncate_and_messages"));
  EXPECT_EQ(d.error, "");
  EXPECT_THAT(d.recorder.heard,
              ElementsAre("insert public.t new(id=1)", "truncate public.t", "truncate public.u",
                          "message evictd: in a transaction", "message evictd: outside one",
                          "insert public.t new(id=2)"));
}

TEST(Pgoutput, RowsAreReadByTheDescriptionInForce) {
  Decoded d;
  d.feed(captured("ddl"));
  EXPECT_EQ(d.error, "");
  EXPECT_THAT(
      d.recorder.heard,
      ElementsAre("insert public.t new(id=1 slug=a)", "insert public.t new(id=2 name=b)",
                  "insert public.t new(id=3 name=c)", "insert public.t new(id=4 name=d extra=7)",
                  "update public.t old(id=1 name=a extra=7) new(id=1 name=z extra=7)"));
  EXPECT_EQ(
      std::set<std::uint64_t>(d.recorder.generations.begin(), d.recorder.generations.end()).size(),
      4u);
  EXPECT_EQ(d.recorder.gone.size(), 3u);
}

TEST(Pgoutput, AnEqualDescriptionKeepsTheRelation) {
  Decoded d;
  const auto messages = captured("origin");  // begin, origin, relation, insert, commit
  d.feed(messages);
  d.decoder.restart();
  d.feed(messages);
  EXPECT_EQ(d.error, "");
  ASSERT_EQ(d.recorder.generations.size(), 2u);
  EXPECT_EQ(d.recorder.generations[0], d.recorder.generations[1]);
  EXPECT_TRUE(d.recorder.gone.empty());
}

TEST(Pgoutput, APartitionAppearsUnderTheNamesOfTheTablesItLiesBelow) {
  Decoded d;
  const auto messages = captured("origin");
  for (const std::string& message : messages) {
    if (const auto described = PgoutputDecoder().described(message)) {
      EXPECT_EQ(described->name, (TableName{"public", "t"}));
      EXPECT_FALSE(d.decoder.has_names(described->relation));
      d.decoder.set_names(described->relation, {TableName{"shop", "events"}, TableName{"shop", "all"}});
    }
  }
  d.feed(messages);
  EXPECT_THAT(d.recorder.heard, ElementsAre("insert shop.events+shop.all new(id=1)"));
}

TEST(Pgoutput, EveryCutOfEveryMessageIsAnErrorAndNothingIsMadeUp) {
  for (const char* name : kCaptures) {
    const auto messages = captured(name);
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const std::string& message = messages[i];
      if (message[0] == 'O' || message[0] == 'Y') continue;  // read no further than their letter
      Decoded whole;
      whole.feed(std::vector<std::string>(messages.begin(),
                                          messages.begin() + static_cast<std::ptrdiff_t>(i)));
      ASSERT_EQ(whole.error, "");
      const std::size_t heard = whole.recorder.heard.size();
      // The long values of one message are the same everywhere: every byte of its head and tail
      // will do.
      for (std::size_t cut = 0; cut < message.size(); ++cut) {
        if (cut > 200 && cut + 200 < message.size()) continue;
        const std::unique_ptr<char[]> exact(
            new char[cut]);  // so that a sanitizer sees a read past the end
        std::copy_n(message.data(), cut, exact.get());
        whole.decoder.decode(Lsn{1}, std::string_view(exact.get(), cut), whole.recorder).map([&] {
          ADD_FAILURE() << name << " message " << i << " '" << message[0] << "' cut at " << cut;
        });
        if (message[0] == 'T') continue;  // the tables before the cut were told
        EXPECT_EQ(whole.recorder.heard.size(), heard);
      }
      EXPECT_FALSE(whole.decoder.decode(Lsn{1}, message + "x", whole.recorder))
          << name << " message " << i;
    }
  }
}

std::string u16(unsigned value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value)};
}
std::string u32(unsigned value) { return u16(value >> 16) + u16(value & 0xffff); }
std::string begin_message() { return "B" + std::string(20, '\0'); }

TEST(Pgoutput, StrayAbortsOfPostgres18AreIgnored) {
  Decoded d;
  d.feed("A" + u32(1) + u32(2));
  EXPECT_EQ(d.error, "");
}

TEST(Pgoutput, ErrorsNameTheMessage) {
  const std::string relation = "R" + u32(7) + std::string("public\0t\0", 9) + "d" + u16(1) +
                               std::string("\1id\0", 4) + u32(23) + u32(0);
  const auto error_after = [&](const std::vector<std::string>& messages) {
    Decoded d;
    d.feed(messages);
    return d.error;
  };
  EXPECT_EQ(error_after({""}), "pgoutput message is empty");
  EXPECT_EQ(error_after({"S"}), "expected a pgoutput message of protocol 1, got type 0x53");
  EXPECT_EQ(error_after({"B123"}), "pgoutput message 'B' is cut short");
  EXPECT_EQ(error_after({begin_message(), begin_message()}),
            "pgoutput message 'B' is malformed: a transaction begins inside another");
  EXPECT_EQ(error_after({"C" + std::string(25, '\0')}),
            "pgoutput message 'C' is malformed: a commit without a begin");
  EXPECT_EQ(error_after({relation, "I" + u32(7) + "N" + u16(1) + "n"}),
            "pgoutput message 'I' is malformed: a row outside a transaction");
  EXPECT_EQ(error_after({begin_message(), "I" + u32(8) + "N" + u16(0)}),
            "pgoutput message 'I' is malformed: relation 8 was never described");
  EXPECT_EQ(error_after({relation, begin_message(), "I" + u32(7) + "N" + u16(2) + "nn"}),
            "pgoutput message 'I' is malformed: a row that does not fit its table");
  EXPECT_EQ(error_after({relation, begin_message(), "I" + u32(7) + "N" + u16(1) + "b" + u32(0)}),
            "pgoutput message 'I' is malformed: a row that does not fit its table");
  EXPECT_EQ(error_after({relation, begin_message(),
                         "I" + u32(7) + "N" + u16(1) + "t" + u32(0xffffffff) + "x"}),
            "pgoutput message 'I' is cut short");
  EXPECT_EQ(error_after({relation, begin_message(), "I" + u32(7) + "K" + u16(1) + "n"}),
            "pgoutput message 'I' is malformed: expected a new row");
  EXPECT_EQ(error_after({relation, begin_message(), "D" + u32(7) + "N" + u16(1) + "n"}),
            "pgoutput message 'D' is malformed: expected an old row");
  EXPECT_EQ(error_after({relation, begin_message(), "I" + u32(7) + "N" + u16(1) + "nn"}),
            "pgoutput message 'I' is malformed: longer than expected");
  EXPECT_EQ(error_after({"T" + u32(1) + std::string("\0", 1) + u32(7)}),
            "pgoutput message 'T' is malformed: a truncate outside a transaction");
  std::string tables;
  for (int i = 0; i < 65'537; ++i) tables += u32(7);
  EXPECT_EQ(error_after({relation, begin_message(), "T" + u32(65'536) + std::string("\0", 1) + tables.substr(4)}), "");
  EXPECT_EQ(error_after({relation, begin_message(), "T" + u32(65'537) + std::string("\0", 1) + tables}),
            "pgoutput message 'T' is malformed: expected at most 65536 tables, got 65537");
}

TEST(Pgoutput, ANullOfTheKeyIsNullAndOfAnotherColumnNotSent) {
  Decoded d;
  d.feed("R" + u32(7) + std::string("public\0t\0", 9) + "i" + u16(2) + std::string("\1id\0", 4) +
         u32(23) + u32(0) + std::string("\0s\0", 3) + u32(25) + u32(0));
  d.feed(begin_message());
  d.feed("D" + u32(7) + "K" + u16(2) + "nn");
  EXPECT_EQ(d.error, "");
  EXPECT_THAT(d.recorder.heard, ElementsAre("delete public.t old(id=NULL s=-)"));
}

TEST(Pgoutput, WhatIsBeyondAsciiInAnotherEncodingWasNotSent) {
  Decoded d;
  const auto row = [&] { d.feed("I" + u32(7) + "N" + u16(2) + "t" + u32(1) + "1" + "t" + u32(4) + "caf\xe9"); };
  d.decoder.restart(true);
  d.feed("R" + u32(7) + std::string("public\0t\0", 9) + "d" + u16(2) + std::string("\1id\0", 4) + u32(23) + u32(0) +
         std::string("\0s\0", 3) + u32(25) + u32(0));
  d.feed(begin_message());
  row();
  d.decoder.restart();
  d.feed(begin_message());
  row();
  EXPECT_EQ(d.error, "");
  EXPECT_THAT(d.recorder.heard, ElementsAre("insert public.t new(id=1 s=-)", "insert public.t new(id=1 s=caf\xe9)"));
}

TEST(LsnText, RoundTripsAndRefusesTheRest) {
  EXPECT_EQ((Lsn{0x16B374D848}.to_string()), "16/B374D848");
  EXPECT_EQ((Lsn{}.to_string()), "0/0");
  EXPECT_EQ((Lsn{~std::uint64_t{0}}.to_string()), "FFFFFFFF/FFFFFFFF");
  EXPECT_EQ(Lsn::parse("16/B374D848"), Lsn{0x16B374D848});
  for (const char* bad :
       {"", "/", "1/", "/1", "1", "g/1", "1/123456789", "1/2/3", " 1/2", "-1/2"}) {
    EXPECT_FALSE(Lsn::parse(bad)) << bad;
  }
}

}  // namespace
}  // namespace evictd::testing
