// The command line: what the person asked for, or what was wrong with it in one line and a hint.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mapping/change.h"
#include "mapping/error.h"

namespace evictd {

enum class Verb : std::uint8_t {
  kHelp,
  kVersion,
  kRun,
  kCheck,
  kExplain,
  kWatch,
  kPurge,
  kDrop,
  kLua,
};

struct CommandLine {
  Verb verb = Verb::kHelp;
  std::string help_topic;  // kHelp: a command, or empty
  std::string config = "evictd.yaml";

  bool offline = false;  // check
  bool json = false;     // check, watch

  std::string table;  // explain, purge, watch
  std::string rule;   // watch
  Operation operation = Operation::kUpdate;
  std::string old_row;                         // JSON; empty: not sent
  std::string new_row;                         // JSON
  std::vector<std::string> identity = {"id"};  // columns of the replica identity

  std::string pattern;   // purge
  bool cluster = false;  // lua
  bool scripts = false;  // lua
  bool yes = false;      // purge, drop
};

// `arguments` without the program's name. Errors are kUsage.
Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments);

// What --help prints; `topic` as in CommandLine.
std::string help_text(std::string_view topic);

}  // namespace evictd
