#include "daemon/net/credential.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <simdjson.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <mutex>
#include <system_error>
#include <thread>

#include "daemon/base/descriptor.h"
#include "daemon/base/shortage.h"
#include "mapping/check.h"

extern char** environ;

namespace evictd {
namespace {

constexpr std::size_t kBytesMax = 64 * 1024;  // longer than any token
constexpr std::chrono::milliseconds kExitPace{5};

// The process group of a command while it runs; 0: none.
struct Running {
  std::mutex mutex;
  pid_t group = 0;
  bool is_given_up = false;

  void kill() {
    const std::lock_guard lock(mutex);
    is_given_up = true;
    if (group > 0) ::kill(-group, SIGKILL);
  }
};

// Days since 1970 of a date of the Gregorian calendar.
std::int64_t days_of(std::int64_t year, unsigned month, unsigned day) {
  return std::chrono::sys_days(std::chrono::year(static_cast<int>(year)) / std::chrono::month(month) / std::chrono::day(day))
      .time_since_epoch()
      .count();
}

// "2026-11-28T09:15:00Z", also with a fraction, or an offset in place of Z.
std::optional<SystemTime> parse_time(std::string_view text) {
  const auto number = [&](std::size_t at, std::size_t digits) -> int {
    int value = 0;
    if (at + digits > text.size()) return -1;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + digits, value);
    return error == std::errc{} && end == text.data() + at + digits && value >= 0 ? value : -1;
  };
  const auto is = [&](std::size_t at, std::string_view any) { return at < text.size() && any.find(text[at]) != any.npos; };
  const int year = number(0, 4), month = number(5, 2), day = number(8, 2);
  const int hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
  if (year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23) return std::nullopt;
  if (minute < 0 || minute > 59 || second < 0 || second > 60) return std::nullopt;
  if (!is(4, "-") || !is(7, "-") || !is(10, "Tt ") || !is(13, ":") || !is(16, ":")) return std::nullopt;
  std::size_t at = 19;
  if (is(at, ".")) {
    ++at;
    while (is(at, "0123456789")) ++at;
  }
  int offset_minutes = 0;
  if (is(at, "+-")) {
    const int hours = number(at + 1, 2), minutes = number(at + 4, 2);
    if (hours < 0 || minutes < 0 || !is(at + 3, ":") || at + 6 != text.size()) return std::nullopt;
    offset_minutes = (text[at] == '-' ? -1 : 1) * (60 * hours + minutes);
  } else if (!is(at, "Zz") || at + 1 != text.size()) {
    return std::nullopt;
  }
  const std::int64_t seconds = days_of(year, static_cast<unsigned>(month), static_cast<unsigned>(day)) * 86400 + hour * 3600 +
                               minute * 60 + second - offset_minutes * 60;
  return SystemTime(std::chrono::seconds(seconds));
}

std::string_view without_line_end(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (text.ends_with('\r')) text.remove_suffix(1);
  return text;
}

Result<std::string> read_file(const std::string& file) {
  const auto cannot = [&](const std::string& why) {
    return fail(ErrorKind::kConnection, why, "the file must be there, and readable for the user that evictd runs as");
  };
  const Descriptor descriptor(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!descriptor.is_open()) return cannot(std::string("cannot be read: ") + std::strerror(errno));
  struct stat status {};
  if (::fstat(descriptor.get(), &status) != 0 || !S_ISREG(status.st_mode)) return cannot("is no file");
  std::string text;
  char buffer[4096];
  while (text.size() <= kBytesMax) {
    const ssize_t got = ::read(descriptor.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return cannot(std::string("cannot be read: ") + std::strerror(errno));
    if (got == 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
  }
  return cannot("is longer than 64 KiB");
}

// Starts it with its output in a pipe, nothing to read, and no descriptor of ours. An errno, or 0.
int start(const std::vector<std::string>& command, int output, Running& running) {
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  if (const int error = posix_spawn_file_actions_init(&actions); error != 0) return error;
  if (const int error = posix_spawnattr_init(&attributes); error != 0) {
    posix_spawn_file_actions_destroy(&actions);
    return error;
  }
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);  // it may print what it must not
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  int error = 0;
  {
    const std::lock_guard lock(running.mutex);
    pid_t process = 0;
    error = running.is_given_up ? ECANCELED : posix_spawnp(&process, arguments[0], &actions, &attributes, arguments.data(), environ);
    if (error == 0) running.group = process;
  }
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

// What it printed. The group is gone when this returns.
Result<std::string> run(const CredentialSource& source, Running& running) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorKind::kConnection, std::string("no pipe for it: ") + std::strerror(errno));
  const Descriptor input(ends[0]);
  Descriptor output(ends[1]);
  if (const int error = start(source.command, output.get(), running); error != 0) {
    return fail(ErrorKind::kConnection, std::string("cannot be started: ") + std::strerror(error),
                "a program in PATH or by its path, and its arguments as a list; no shell reads it");
  }
  const pid_t process = running.group;
  output = Descriptor();
  const SteadyTime deadline = std::chrono::steady_clock::now() + source.patience;
  std::string text;
  std::string problem;
  bool is_open = true;
  std::optional<int> status;
  while (problem.empty() && !(status && !is_open)) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      problem = fmt::format("did not end within {} ms", source.patience.count());
      break;
    }
    // Its exit is looked for: what it has started may keep the pipe open.
    pollfd descriptor{is_open ? input.get() : -1, POLLIN, 0};
    const int ready = ::poll(&descriptor, 1, static_cast<int>(std::min(left, kExitPace).count()));
    if (ready > 0) {
      char buffer[4096];
      const ssize_t got = ::read(input.get(), buffer, sizeof(buffer));
      if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
      if (got == 0 || (got < 0 && errno != EINTR)) is_open = false;
      if (text.size() > kBytesMax) problem = "printed more than 64 KiB";
    } else if (status) {
      break;  // it is over, and nothing more comes
    }
    if (int ended = 0; !status && ::waitpid(process, &ended, WNOHANG) == process) status = ended;
  }
  {
    // Nobody signals a group whose number may be another's: from here on it is nobody's.
    const std::lock_guard lock(running.mutex);
    ::kill(-process, SIGKILL);
    if (!status) {
      int ended = 0;
      while (::waitpid(process, &ended, 0) < 0 && errno == EINTR) {
      }
    }
    running.group = 0;
  }
  if (problem.empty() && WIFSIGNALED(*status)) problem = fmt::format("was ended by signal {}", WTERMSIG(*status));
  if (problem.empty() && WEXITSTATUS(*status) != 0) problem = fmt::format("exited with {}", WEXITSTATUS(*status));
  if (problem.empty()) return text;
  return fail(ErrorKind::kConnection, problem, "run it by hand as the user that evictd runs as; what it prints is not shown here");
}

Result<Credential> ask(const CredentialSource& source, Running& running) {
  Result<std::string> text = source.file.empty() ? run(source, running) : read_file(source.file);
  Result<Credential> credential = text ? parse_credential(*text) : tl::unexpected(text.error());
  if (credential) return credential;
  Error error = std::move(credential.error());
  error.text = source.to_string() + " " + error.text;
  return tl::unexpected(std::move(error));
}

}  // namespace

std::string CredentialSource::to_string() const {
  return file.empty() ? "password_command '" + (command.empty() ? std::string() : command.front()) + "'" : "password_file '" + file + "'";
}

Result<Credential> parse_credential(std::string_view text) {
  constexpr std::string_view kForms = "expected the password alone on one line, or {\"password\": \"...\", \"expires\": \"2026-01-01T00:00:00Z\"}";
  const auto wrong = [&](std::string why) { return fail(ErrorKind::kConnection, std::move(why), std::string(kForms)); };
  Credential credential;
  std::string_view trimmed = text;
  while (!trimmed.empty() && std::isspace(static_cast<unsigned char>(trimmed.front())) != 0) trimmed.remove_prefix(1);
  if (trimmed.starts_with('{')) {
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    if (parser.parse(simdjson::padded_string(trimmed)).get(object) == simdjson::SUCCESS) {
      std::string_view password;
      if (object["password"].get(password) != simdjson::SUCCESS) return wrong("gave JSON without a text \"password\"");
      if (password.empty()) return wrong("gave an empty password");
      if (password.find('\0') != std::string_view::npos) return wrong("gave a password with a zero byte");
      credential.password = Secret(std::string(password));
      simdjson::dom::element expires;
      if (object["expires"].get(expires) != simdjson::SUCCESS || expires.is_null()) return credential;
      if (double seconds = 0; expires.get(seconds) == simdjson::SUCCESS && seconds > 0 && seconds < 1e11) {
        credential.expires = SystemTime(std::chrono::microseconds(static_cast<std::int64_t>(seconds * 1e6)));
        return credential;
      }
      std::string_view time;
      if (expires.get(time) == simdjson::SUCCESS) credential.expires = parse_time(time);
      if (!credential.expires) return wrong("gave an \"expires\" that is no time");
      return credential;
    }
  }
  const std::string_view line = without_line_end(text);
  if (line.empty()) return wrong("gave nothing");
  if (line.find('\n') != std::string_view::npos) return wrong("gave more than one line");
  if (line.find('\0') != std::string_view::npos) return wrong("gave a password with a zero byte");
  credential.password = Secret(std::string(line));
  return credential;
}

Result<Credential> ask_credential(const CredentialSource& source) {
  Running running;
  return ask(source, running);
}

struct CredentialLookup::State {
  Running running;
  std::atomic<bool> is_done = false;
  Result<Credential> answer;  // valid when done
  int event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

  ~State() {
    if (event >= 0) ::close(event);
  }
  void finish(Result<Credential> found) {
    answer = std::move(found);
    is_done.store(true, std::memory_order_release);
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(event, &one, sizeof(one));
  }
};

CredentialLookup::CredentialLookup(const CredentialSource& source) : state_(std::make_shared<State>()) {
  if (state_->event < 0) {
    state_->finish(fail(ErrorKind::kConnection, std::string("no descriptor to ask for a password: ") + std::strerror(errno)));
    return;
  }
  try {
    std::thread([state = state_, source] { state->finish(ask(source, state->running)); }).detach();
  } catch (const std::system_error& error) {
    state_->finish(fail(ErrorKind::kConnection, std::string("no thread to ask for a password: ") + error.what(), std::string(kThreadsHint)));
  }
}

CredentialLookup::~CredentialLookup() { state_->running.kill(); }

bool CredentialLookup::is_done() const { return state_->is_done.load(std::memory_order_acquire); }

const Result<Credential>& CredentialLookup::answer() const {
  EVICTD_CHECK(is_done());
  return state_->answer;
}

void CredentialLookup::wait_for(Waiting& waiting) const {
  if (is_done()) return waiting.wake_at(SteadyTime::min());
  waiting.descriptors.push_back(pollfd{state_->event, POLLIN, 0});
}

}  // namespace evictd
