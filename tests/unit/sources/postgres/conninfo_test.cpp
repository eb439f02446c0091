#include "daemon/sources/postgres/conninfo.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace evictd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Conninfo parsed(const std::string& url) {
  auto conninfo = Conninfo::parse(url);
  EXPECT_TRUE(conninfo) << conninfo.error().to_string();
  return conninfo ? *conninfo : Conninfo{};
}

TEST(ConninfoParse, ReadsUriAndKeywords) {
  EXPECT_EQ(parsed("postgresql://evictd@db.example:6432/shop").server(), "db.example:6432");
  EXPECT_EQ(parsed("host=db.example dbname=shop").server(), "db.example:5432");
  EXPECT_EQ(parsed("dbname=shop").server(), "localhost:5432");
  EXPECT_EQ(parsed("postgresql://a@h/shop").get("user"), "a");
}

// A variable for the time of one test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

TEST(ConninfoServer, WhatLibpqTakesFromTheEnvironmentIsShown) {
  const Variable host("PGHOST", "db.example"), port("PGPORT", "6432");
  EXPECT_EQ(parsed("dbname=shop").server(), "db.example:6432");
  EXPECT_EQ(parsed("postgresql://h/shop").server(), "h:6432");
  EXPECT_EQ(parsed("postgresql://h:5433/shop").server(), "h:5433");
  EXPECT_EQ(parsed("hostaddr=10.0.0.7").server(), "10.0.0.7:6432");
  EXPECT_EQ(parsed("dbname=shop").names(), std::vector<std::string>{"db.example"});
}

TEST(ConninfoServer, AServiceComesBeforeTheEnvironment) {
  const Variable host("PGHOST", "db.example");
  EXPECT_EQ(parsed("service=shop").server(), "service 'shop'");
  EXPECT_EQ(parsed("service=shop").names(), std::vector<std::string>{}) << "its host is libpq's to look up";
  EXPECT_EQ(parsed("service=shop host=h").server(), "h:5432");
  const Variable service("PGSERVICE", "other");
  EXPECT_EQ(parsed("dbname=shop").server(), "service 'other'");
}

TEST(ConninfoServer, SeveralHostsOfTheEnvironmentKeepTheirPorts) {
  const Variable host("PGHOST", "a,b"), port("PGPORT", "1,2");
  Conninfo conninfo = parsed("dbname=shop");
  conninfo.pin_session("evictd", "");
  EXPECT_EQ(conninfo.get("target_session_attrs"), "read-write");
  ASSERT_TRUE(conninfo.set_addresses({{"a", {"10.0.0.1", "10.0.0.2"}}, {"b", {"10.0.0.3"}}}));
  EXPECT_EQ(conninfo.get("host") + " " + conninfo.get("hostaddr") + " " + conninfo.get("port"), "a,a,b 10.0.0.1,10.0.0.2,10.0.0.3 1,1,2");
}

TEST(ConninfoParse, WhoeverSignsInHasANameWithoutOneInTheUrlToo) {
  EXPECT_EQ(parsed("postgresql://a@h/shop").user(), "a");
  ::setenv("PGUSER", "from environment", 1);
  EXPECT_EQ(parsed("postgresql://h/shop").user(), "from environment");
  EXPECT_EQ(parsed("service=some").user(), "") << "which may name one";
  ::unsetenv("PGUSER");
  EXPECT_NE(parsed("postgresql://h/shop").user(), "") << "the user that we run as";
}

TEST(ConninfoParse, RefusesWithoutRepeatingWhatMayBeAPassword) {
  const auto bad = Conninfo::parse("host=db passwrd=hunter2 'hunter3");
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(bad.error().text,
              HasSubstr("cannot read postgres.url: invalid connection option '...'"));
  EXPECT_EQ(bad.error().hint,
            "expected a libpq URI or keywords, such as 'postgresql://evictd@localhost/shop'");
  for (const char* url : {"hunter2", "postgresql://u:hunter2@[::1/db", "a=hunter2 b",
                          "postgresql://u:x\"hunter2\"y@[::1/db", "postgresql://u:x\"hunter2@[::1/db"}) {
    const auto refused = Conninfo::parse(url);
    ASSERT_FALSE(refused) << url;
    EXPECT_THAT(refused.error().to_string(), Not(HasSubstr("hunter2"))) << url;
  }
}

TEST(ConninfoParse, ASecretThatIsNotPercentEncodedIsNeverTakenForSomethingElse) {
  for (const char* url : {"postgresql://ev:s3cr3t-p/ss@localhost/db", "postgresql://ev:s3cr3t@p@localhost/db",
                          "postgresql://ev:s3cr3t?p@localhost/db", "postgresql://ev:12/s3cr3t@localhost/db",
                          "postgresql://ev:a@s3cr3t/p@localhost/db"}) {
    const auto refused = Conninfo::parse(url);
    ASSERT_FALSE(refused) << url;
    EXPECT_THAT(refused.error().to_string(), Not(HasSubstr("s3cr3t"))) << url;
    EXPECT_THAT(refused.error().hint, HasSubstr("percent-encode it: '/' is %2F, '@' is %40")) << url;
  }
  for (const char* url : {"postgresql://ev:s3cr3t-p%2Fss%40@localhost:5432,[::1]:5433/db?sslmode=disable",
                          "postgresql:///db?host=@abstract", "postgresql://[::1]/db", "host=h password=a@b/c@d"}) {
    EXPECT_TRUE(Conninfo::parse(url)) << url;
  }
}

// libpq takes all of these, and what it takes for a host or a database is shown by every command.
TEST(ConninfoParse, SettingsInTheFormOfAnotherDriverAreNotTakenForAHost) {
  for (const char* url : {"host=127.0.0.1;port=5432;user=u;password=hunter2", "host=h dbname='host=x password=hunter2'",
                          "host=h dbname=postgresql://u:hunter2@h/d", "host=h;Password=hunter2"}) {
    const auto refused = Conninfo::parse(url);
    ASSERT_FALSE(refused) << url;
    EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(refused.error().text, HasSubstr("holds what looks like further settings"));
    EXPECT_THAT(refused.error().hint, HasSubstr("blanks stand between the settings, not ';'"));
    EXPECT_THAT(refused.error().to_string(), Not(HasSubstr("hunter2"))) << url;
  }
  for (const char* url : {"host=h password=a;b=c", "host=/run/a=b", "postgresql://u:p%3Bq%3D@h/d", "host=h dbname='a;b'"}) {
    EXPECT_TRUE(Conninfo::parse(url)) << url;
  }
}

TEST(ConninfoText, QuotesForLibpq) {
  Conninfo conninfo = parsed("postgresql://u:it%27s%5Cme@h/shop");
  EXPECT_THAT(conninfo.text(), HasSubstr("password='it\\'s\\\\me'"));
  EXPECT_EQ(parsed(conninfo.text()).get("password"), "it's\\me");
}

TEST(ConninfoText, PinnedSettingsComeAfterTheUsersOwn) {
  Conninfo conninfo = parsed(
      "postgresql://h/"
      "shop?options=-c%20DateStyle%3DSQL&client_encoding=LATIN1&application_name=mine");
  conninfo.pin_session("evictd", "");
  const std::string options = conninfo.get("options");
  EXPECT_LT(options.find("DateStyle=SQL"), options.find("DateStyle=ISO"));
  for (const char* pinned : {"TimeZone=UTC", "DateStyle=ISO", "IntervalStyle=postgres",
                             "extra_float_digits=3", "bytea_output=hex"}) {
    EXPECT_THAT(options, HasSubstr(pinned));
  }
  EXPECT_EQ(conninfo.get("client_encoding"), "UTF8");
  EXPECT_EQ(conninfo.get("application_name"), "evictd");
  conninfo.pin_session("evictd", "SQL_ASCII");
  EXPECT_EQ(conninfo.get("client_encoding"), "SQL_ASCII");
}

TEST(ConninfoText, DeadPeersAreNoticedUnlessTheUserSaysOtherwise) {
  Conninfo conninfo = parsed("postgresql://h/shop?keepalives_idle=99");
  conninfo.pin_session("evictd", "");
  EXPECT_EQ(conninfo.get("keepalives_idle"), "99");
  EXPECT_EQ(conninfo.get("tcp_user_timeout"), "30000");
}

TEST(ConninfoText, SeveralHostsMustLeadToTheSameWritableServer) {
  Conninfo several = parsed("postgresql://a,b/shop");
  several.pin_session("evictd", "");
  EXPECT_EQ(several.get("target_session_attrs"), "read-write");
}

TEST(ConninfoScrub, PasswordsNeverAppear) {
  Conninfo conninfo = parsed("postgresql://u:hunter2@h/shop");
  EXPECT_EQ(conninfo.scrub("FATAL: hunter2 is wrong\nhunter2\n"), "FATAL: *** is wrong; ***");
  ::setenv("PGPASSWORD", "from the environment", 1);
  EXPECT_EQ(conninfo.scrub("got from the environment"), "got ***");
  ::unsetenv("PGPASSWORD");
}

TEST(ConninfoNames, OnlyNamesWithoutAnAddressAreLookedUp) {
  using ::testing::ElementsAre;
  const auto names = [](const std::string& text) { return Conninfo::parse(text)->names(); };
  EXPECT_THAT(names("host=db.example"), ElementsAre("db.example"));
  EXPECT_THAT(names("host=a,127.0.0.1,/run/postgresql,::1,b"), ElementsAre("a", "b"));
  EXPECT_THAT(names("host=db.example hostaddr=127.0.0.1"), ElementsAre());
  EXPECT_THAT(names("dbname=shop"), ElementsAre());
}

TEST(ConninfoNames, EachAddressStandsBesideItsNameAndItsPort) {
  auto conninfo = *Conninfo::parse("host=a,127.0.0.2,/run/pg,gone,b port=1,2,3,4,5");
  ASSERT_TRUE(conninfo.set_addresses({{"a", {"10.0.0.1", "fd00::1"}}, {"gone", {}}, {"b", {"10.0.0.2"}}}));
  EXPECT_EQ(conninfo.get("host"), "a,a,127.0.0.2,/run/pg,b");
  EXPECT_EQ(conninfo.get("hostaddr"), "10.0.0.1,fd00::1,127.0.0.2,,10.0.0.2");
  EXPECT_EQ(conninfo.get("port"), "1,1,2,3,5");
  EXPECT_TRUE(conninfo.names().empty());
  conninfo = *Conninfo::parse("host=a,b port=7");
  ASSERT_TRUE(conninfo.set_addresses({{"a", {"10.0.0.1"}}, {"b", {"10.0.0.2"}}}));
  EXPECT_EQ(conninfo.get("port"), "7");
  conninfo = *Conninfo::parse("host=a");
  EXPECT_FALSE(conninfo.set_addresses({{"a", {}}}));
}

std::string shown(const std::vector<Conninfo>& each) {
  std::string text;
  for (const Conninfo& one : each) text += one.get("host") + "/" + one.get("hostaddr") + "/" + one.get("port") + " ";
  return text;
}

TEST(ConninfoEachHost, KeepsAddressAndPortOfEach) {
  EXPECT_EQ(shown(parsed("postgresql://e@a:1,b:2/shop?target_session_attrs=read-write").each_host()), "a//1 b//2 ");
  EXPECT_EQ(shown(parsed("host=a,b port=6 dbname=shop").each_host()), "a//6 b//6 ") << "one port is that of all";
  EXPECT_EQ(shown(parsed("host=a,b hostaddr=10.0.0.1,10.0.0.2").each_host()), "a/10.0.0.1/ b/10.0.0.2/ ");
  EXPECT_EQ(shown(parsed("postgresql://e@a/shop").each_host()), "");
  EXPECT_EQ(parsed("postgresql://e@a,b/shop?target_session_attrs=read-write").each_host().at(1).get("target_session_attrs"), "any");
}

TEST(ConninfoPutFirst, ReordersHostsWithWhatBelongsToThem) {
  Conninfo conninfo = parsed("host=a,b,c hostaddr=10.0.0.1,,10.0.0.3 port=1,2,3");
  conninfo.put_first(conninfo.each_host().at(2));
  EXPECT_EQ(shown({conninfo}), "c,a,b/10.0.0.3,10.0.0.1,/3,1,2 ");
  conninfo = parsed("host=a,a port=1,2");
  conninfo.put_first(conninfo.each_host().at(1));
  EXPECT_EQ(shown({conninfo}), "a,a//2,1 ") << "two servers of one machine";
  conninfo = parsed("host=a port=1");
  conninfo.put_first(conninfo);
  EXPECT_EQ(shown({conninfo}), "a//1 ");
}

}  // namespace
}  // namespace evictd
