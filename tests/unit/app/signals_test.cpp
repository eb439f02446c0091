#include "daemon/app/signals.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "daemon/base/stop.h"

namespace evictd {
namespace {

bool is_readable(int descriptor) {
  pollfd one{descriptor, POLLIN, 0};
  return poll(&one, 1, 0) == 1;
}

TEST(Signals, ArriveAsValues) {
  Signals signals(Hangup::kReloads);
  EXPECT_EQ(signals.next(), std::nullopt);
  kill(getpid(), SIGHUP);
  EXPECT_EQ(signals.next(), Signal::kReload);
  kill(getpid(), SIGTERM);
  EXPECT_EQ(signals.next(), Signal::kStop);
  kill(getpid(), SIGINT);
  EXPECT_EQ(signals.next(), Signal::kStop);
  EXPECT_EQ(signals.next(), std::nullopt);
}

TEST(Signals, AHangupEndsWhatDoesNotReload) {
  Signals signals;
  kill(getpid(), SIGHUP);
  EXPECT_EQ(signals.next(), Signal::kStop);
  EXPECT_EQ(signals.next(), std::nullopt);
}

TEST(Signals, AHangupThatIsIgnoredStaysSo) {
  signal(SIGHUP, SIG_IGN);
  sigset_t hangup;
  sigemptyset(&hangup);
  sigaddset(&hangup, SIGHUP);
  pthread_sigmask(SIG_UNBLOCK, &hangup, nullptr);  // an earlier test's
  Signals signals;
  kill(getpid(), SIGHUP);
  EXPECT_EQ(signals.next(), std::nullopt);
  signal(SIGHUP, SIG_DFL);
}

TEST(Signals, AStopIsSeenByWhatBlocksBeforeAndAfterItWasTaken) {
  Signals signals;
  EXPECT_FALSE(is_readable(stop_descriptor));
  kill(getpid(), SIGTERM);
  EXPECT_TRUE(is_readable(stop_descriptor));
  EXPECT_EQ(signals.next(), Signal::kStop);
  EXPECT_EQ(signals.next(), std::nullopt);
  EXPECT_TRUE(is_readable(stop_descriptor));
}

TEST(Signals, TheDaemonIsNotTakenOutOfWhatItWaitsFor) {
  const Signals signals(Hangup::kReloads);
  EXPECT_EQ(stop_descriptor, -1);
}

// `ulimit -f` and a full log file; a terminal with `stty tostop`.
TEST(Signals, WhatALogMayBringUponItsWriterNeitherEndsNorStopsIt) {
  const Signals signals(Hangup::kReloads);
  raise(SIGXFSZ);
  raise(SIGTTOU);
  raise(SIGPIPE);
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
