// evictd: the command line, dispatched. What each command does is in commands/.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <system_error>
#include <vector>

#include "daemon/app/commands/commands.h"
#include "daemon/app/manual.h"
#include "daemon/base/plain_text.h"
#include "daemon/base/shortage.h"
#include "daemon/version_text.h"

namespace evictd {

int exit_code(const Error& error) {
  return error.kind == ErrorKind::kUsage ? kExitUsage : kExitFailed;
}

int report(const Error& error) {
  std::fprintf(stderr, "%s\n", plain_lines(error.to_string()).c_str());
  return exit_code(error);
}

namespace {

int dispatch(const CommandLine& request) {
  switch (request.verb) {
    case Verb::kHelp:
      std::fputs(help_text(request.help_topic).c_str(), stdout);
      return kExitDone;
    case Verb::kVersion:
      std::printf("evictd %s\n", kVersionText);
      return kExitDone;
    case Verb::kRun:
      return run_command(request);
    case Verb::kCheck:
      return check_command(request);
    case Verb::kAudit:
      return audit_command(request);
    case Verb::kExplain:
      return explain_command(request);
    case Verb::kWatch:
      return watch_command(request);
    case Verb::kPurge:
      return purge_command(request);
    case Verb::kWarm:
      return warm_command(request);
    case Verb::kDrop:
      return drop_command(request);
    case Verb::kLua:
      return lua_command(request);
    case Verb::kRules:
      return rules_command(request);
    case Verb::kInit:
      return init_command(request);
    case Verb::kCompletion:
      std::fputs((request.shell == "zsh" ? zsh_completion() : request.shell == "fish" ? fish_completion() : bash_completion()).c_str(), stdout);
      return kExitDone;
    case Verb::kMan:
      std::fputs(manual_page(kVersionText).c_str(), stdout);
      return kExitDone;
  }
  return kExitUsage;
}

int guarded(int argument_count, char** arguments) {
  const Result<CommandLine> request =
      parse_command_line(std::vector<std::string>(arguments + 1, arguments + argument_count));
  return request ? dispatch(*request) : report(request.error());
}

// Where standard input, output or errors are closed ("evictd ... >&-"), the next thing that is opened has their number: what is
// printed would go into a connection to the database.
void keep_standard_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(descriptor, F_GETFD) == -1 && errno == EBADF) (void)open("/dev/null", O_RDWR);  // the lowest number that is free
  }
}

// Whoever reads our output has seen enough: "evictd ... | head".
bool is_reader_gone() {
  pollfd output{STDOUT_FILENO, POLLOUT, 0};
  return poll(&output, 1, 0) == 1 && (output.revents & (POLLERR | POLLHUP)) != 0;
}

// An answer that a full disk cut short is no success, whatever was to be said.
int with_all_written(int exit) {
  errno = 0;
  const bool is_flushed = std::fflush(stdout) == 0;
  const int reason = is_flushed ? 0 : errno;
  if ((is_flushed && std::ferror(stdout) == 0) || is_reader_gone()) return exit;
  std::fprintf(stderr, "cannot write all of the answer to standard output%s%s\n", reason == 0 ? "" : ": ", reason == 0 ? "" : std::strerror(reason));
  return exit == kExitDone ? kExitFailed : exit;
}

}  // namespace
}  // namespace evictd

int main(int argument_count, char** arguments) {
  evictd::keep_standard_descriptors();
  // A connection that breaks while we write is an error value in every command, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  // Only memory and threads can run out here: every library's exceptions are caught where it is used.
  try {
    return evictd::with_all_written(evictd::guarded(argument_count, arguments));
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::broken_pipe && evictd::is_reader_gone()) return evictd::kExitFailed;
    const bool lacks_thread = error.code() == std::errc::resource_unavailable_try_again;
    std::fprintf(stderr, "evictd failed: %s%s\n", lacks_thread ? "no thread to begin with: " : "", error.what());
    const bool lacks_file = error.code() == std::errc::too_many_files_open || error.code() == std::errc::too_many_files_open_in_system;
    if (lacks_thread) std::fprintf(stderr, "hint: %s\n", evictd::kThreadsHint.data());
    if (lacks_file) std::fprintf(stderr, "hint: %s\n", evictd::kFilesHint.data());
    return evictd::kExitFailed;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "evictd failed: %s\n", error.what());
    return evictd::kExitFailed;
  }
}
