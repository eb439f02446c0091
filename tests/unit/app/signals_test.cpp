#include "daemon/app/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace evictd {
namespace {

TEST(Signals, ArriveAsValues) {
  Signals signals;
  EXPECT_EQ(signals.next(), std::nullopt);
  kill(getpid(), SIGHUP);
  EXPECT_EQ(signals.next(), Signal::kReload);
  kill(getpid(), SIGTERM);
  EXPECT_EQ(signals.next(), Signal::kStop);
  kill(getpid(), SIGINT);
  EXPECT_EQ(signals.next(), Signal::kStop);
  EXPECT_EQ(signals.next(), std::nullopt);
}

TEST(ServiceManager, IsToldWhenThereIsOne) {
  const std::string path = "/tmp/evictd-notify-" + std::to_string(getpid());
  const int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  notify_service_manager("READY=1");
  unsetenv("NOTIFY_SOCKET");
  notify_service_manager("READY=1");  // nobody to tell
  char text[64] = {};
  EXPECT_EQ(recv(descriptor, text, sizeof text, 0), 7);
  EXPECT_STREQ(text, "READY=1");
  EXPECT_LT(recv(descriptor, text, sizeof text, 0), 0);
  close(descriptor);
  unlink(path.c_str());
}

}  // namespace
}  // namespace evictd
