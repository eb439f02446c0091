// evictd: the command line, dispatched. What each command does is in commands/.
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "daemon/app/commands/commands.h"
#include "daemon/app/manual.h"
#include "daemon/version_text.h"

namespace evictd {

int exit_code(const Error& error) {
  return error.kind == ErrorKind::kUsage ? kExitUsage : kExitFailed;
}

int report(const Error& error) {
  std::fprintf(stderr, "%s\n", error.to_string().c_str());
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

}  // namespace
}  // namespace evictd

int main(int argument_count, char** arguments) {
  // A connection that breaks while we write is an error value in every command, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  // Only memory can run out here: every library's exceptions are caught where it is used.
  try {
    return evictd::guarded(argument_count, arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "evictd failed: %s\n", error.what());
    return evictd::kExitFailed;
  }
}
