#include "daemon/net/name_lookup.h"

#include <netdb.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "daemon/base/shortage.h"
#include "mapping/check.h"

namespace evictd {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// The error of getaddrinfo, and what it found.
std::pair<int, AddressList> look_up(const std::string& host, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  return {error, AddressList(list, &freeaddrinfo)};
}

}  // namespace

struct NameLookup::State {
  std::string host;
  std::atomic<bool> is_done = false;
  Result<std::vector<std::string>> addresses;  // valid when done
  int event = -1;

  explicit State(std::string name)
      : host(std::move(name)), event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  }
  ~State() {
    if (event >= 0) ::close(event);
  }

  void finish(Result<std::vector<std::string>> found) {
    addresses = std::move(found);
    if (addresses && addresses->empty()) addresses = fail(ErrorKind::kConnection, "the name has no address");
    is_done.store(true, std::memory_order_release);
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(event, &one, sizeof(one));
  }
};

NameLookup::NameLookup(std::string host, const Resolver& resolver) : state_(std::make_shared<State>(std::move(host))) {
  if (is_numeric(state_->host)) {
    state_->finish(std::vector<std::string>{state_->host});
    return;
  }
  // Descriptors and threads may be used up: a look-up that failed, to be tried again like any other.
  if (state_->event < 0) {
    state_->finish(fail(ErrorKind::kConnection, std::string("no descriptor for it: ") + std::strerror(errno)));
    return;
  }
  try {
    std::thread([state = state_, resolver] { state->finish(resolver(state->host)); }).detach();
  } catch (const std::system_error& error) {
    state_->finish(fail(ErrorKind::kConnection, std::string("no thread for it: ") + error.what(), std::string(kThreadsHint)));
  }
}

const std::string& NameLookup::host() const { return state_->host; }

bool NameLookup::is_done() const { return state_->is_done.load(std::memory_order_acquire); }

const Result<std::vector<std::string>>& NameLookup::addresses() const {
  EVICTD_CHECK(is_done());
  return state_->addresses;
}

void NameLookup::wait_for(Waiting& waiting) const {
  if (is_done()) return waiting.wake_at(SteadyTime::min());
  waiting.descriptors.push_back(pollfd{state_->event, POLLIN, 0});
}

bool NameLookup::is_numeric(const std::string& host) { return look_up(host, AI_NUMERICHOST).first == 0; }

Result<std::vector<std::string>> NameLookup::system_resolver(const std::string& host) {
  const auto [error, list] = look_up(host, AI_ADDRCONFIG);
  if (error != 0) return fail(ErrorKind::kConnection, gai_strerror(error));
  std::vector<std::string> addresses;
  for (const addrinfo* one = list.get(); one != nullptr; one = one->ai_next) {
    char text[NI_MAXHOST];
    if (getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) continue;
    addresses.emplace_back(text);
  }
  return addresses;
}

}  // namespace evictd
