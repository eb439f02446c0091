#include "daemon/net/name_lookup.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/sources/postgres/worker.h"

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

// In a process of its own: a limit on threads does not bind root, and cannot be taken back.
void use_up_threads() {
  if (getuid() == 0 && setuid(65534) != 0) _exit(3);
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_NPROC, &none) != 0) _exit(3);
}

TEST(NameLookup, WithoutThreadsItFails) {
  const auto look_up = [] {
    use_up_threads();
    const NameLookup refused("cache.example");
    _exit(refused.is_done() && !refused.addresses() &&
                  refused.addresses().error().text.starts_with("no thread for it: ")
              ? 0
              : 1);
  };
  EXPECT_EXIT(look_up(), testing::ExitedWithCode(0), "");
}

TEST(CatalogueWorker, WithoutThreadsAQuestionIsLateAndSaysWhatLacks) {
  const auto ask = [] {
    use_up_threads();
    CatalogueWorker worker(std::chrono::seconds(1));
    bool was_late = false;
    worker.submit([](Catalogue&) { return CatalogueWorker::Completion(); }, [&](const Error& why) {
      was_late = why.text.starts_with("no thread to ask PostgreSQL's catalogue: ") && why.hint.find("TasksMax") != std::string::npos;
    });
    worker.run_completions();
    _exit(was_late ? 0 : 1);
  };
  EXPECT_EXIT(ask(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace evictd
