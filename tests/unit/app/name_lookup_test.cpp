#include "daemon/net/name_lookup.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

namespace evictd {
namespace {

TEST(NameLookup, WithoutDescriptorsItFailsAndCanBeTriedAgain) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const NameLookup refused("cache.example");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(refused.is_done());
  ASSERT_FALSE(refused.addresses());
  EXPECT_EQ(refused.addresses().error().kind, ErrorKind::kConnection);
  EXPECT_EQ(refused.addresses().error().text, "no descriptor for it: Too many open files");

  const NameLookup again("127.0.0.1");
  ASSERT_TRUE(again.is_done());
  EXPECT_TRUE(again.addresses());
}

}  // namespace
}  // namespace evictd
