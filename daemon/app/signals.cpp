#include "daemon/app/signals.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "daemon/base/stop.h"
#include "mapping/check.h"

namespace evictd {
namespace {

sigset_t our_signals(Hangup hangup) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  // A blocked signal arrives although it is ignored.
  struct sigaction now{};
  const bool is_ignored = sigaction(SIGHUP, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
  if (hangup == Hangup::kReloads || !is_ignored) sigaddset(&set, SIGHUP);
  return set;
}

void watch(int epoll, int descriptor) {
  epoll_event event{};
  event.events = EPOLLIN;
  EVICTD_CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0);
}

}  // namespace

Signals::Signals(Hangup hangup) : hangup_(hangup) {
  const sigset_t set = our_signals(hangup);
  EVICTD_CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  // A connection that breaks while we write is an error value, not the end of the process.
  signal(SIGPIPE, SIG_IGN);
  // So is a log that has grown to the largest file there may be, and a terminal that lets no background process write.
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGTTOU, SIG_IGN);
  descriptor_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  stopped_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  stop_ = epoll_create1(EPOLL_CLOEXEC);
  // Without signals nothing could be asked to stop: for the supervisor to try again.
  const bool has_all = descriptor_ >= 0 && stopped_ >= 0 && stop_ >= 0;
  if (!has_all) throw std::system_error(errno, std::generic_category(), "no descriptor to begin with");
  if (hangup == Hangup::kReloads) return;  // its loop never waits for one thing alone
  watch(stop_, descriptor_);
  watch(stop_, stopped_);
  stop_descriptor = stop_;
}

Signals::~Signals() {
  stop_descriptor = -1;
  for (const int descriptor : {stop_, stopped_, descriptor_}) close(descriptor);
}

std::optional<Signal> Signals::next() {
  signalfd_siginfo info;
  if (read(descriptor_, &info, sizeof info) != static_cast<ssize_t>(sizeof info)) {
    return std::nullopt;
  }
  if (info.ssi_signo == SIGHUP && hangup_ == Hangup::kReloads) return Signal::kReload;
  (void)eventfd_write(stopped_, 1);
  has_stopped_ = true;
  return Signal::kStop;
}

void notify_service_manager(const char* state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr) return;
  const std::size_t length = std::strlen(path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (length == 0 || length >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, path, length);
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';  // an abstract socket
  const int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return;
  // Whether it arrives is the service manager's concern.
  (void)sendto(descriptor, state, std::strlen(state), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address),
               static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
  close(descriptor);
}

}  // namespace evictd
