#include "daemon/app/command_line.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>

#include "mapping/did_you_mean.h"

namespace evictd {
namespace {

struct VerbName {
  std::string_view name;
  Verb verb;
};
constexpr std::array kVerbs = {VerbName{"run", Verb::kRun},         VerbName{"check", Verb::kCheck},
                               VerbName{"explain", Verb::kExplain}, VerbName{"watch", Verb::kWatch},
                               VerbName{"purge", Verb::kPurge},     VerbName{"drop", Verb::kDrop},
                               VerbName{"lua", Verb::kLua}};
constexpr std::array kOperations = {Operation::kInsert, Operation::kUpdate, Operation::kDelete,
                                    Operation::kTruncate};

tl::unexpected<Error> usage(std::string text, std::string hint) {
  return fail(ErrorKind::kUsage, std::move(text), std::move(hint));
}

std::string see_help(std::string_view verb) {
  return verb.empty() ? "see 'evictd --help'" : fmt::format("see 'evictd {} --help'", verb);
}

// The options of each command, for the parser and for "did you mean".
void add_options(CLI::App& app, CommandLine& into, std::string& operation) {
  switch (into.verb) {
    case Verb::kCheck:
      app.add_flag("--offline", into.offline);
      app.add_flag("--json", into.json);
      break;
    case Verb::kExplain:
      app.add_option("--table", into.table);
      app.add_option("--op", operation);
      app.add_option("--old", into.old_row);
      app.add_option("--new", into.new_row);
      app.add_option("--identity", into.identity)->delimiter(',');
      break;
    case Verb::kWatch:
      app.add_option("--table", into.table);
      app.add_option("--rule", into.rule);
      app.add_flag("--json", into.json);
      break;
    case Verb::kPurge:
      app.add_option("--table", into.table);
      app.add_option("--pattern", into.pattern);
      app.add_flag("--yes", into.yes);
      break;
    case Verb::kDrop:
      app.add_flag("--yes", into.yes);
      break;
    case Verb::kLua:
      app.add_flag("--cluster", into.cluster);
      app.add_flag("--scripts", into.scripts);
      break;
    default:
      break;
  }
  app.add_option("-c,--config", into.config);
}

Result<void> read_operation(CommandLine& into, const std::string& operation) {
  std::vector<std::string_view> names;
  for (const Operation one : kOperations) {
    names.push_back(operation_name(one));
    if (operation == operation_name(one)) {
      into.operation = one;
      return {};
    }
  }
  return usage(fmt::format("expected insert, update, delete or truncate, got '{}'", operation),
               did_you_mean(operation, names, "operations"));
}

Result<void> check_explain(CommandLine& into, const std::string& operation) {
  if (into.table.empty()) return usage("'explain' needs '--table'", see_help("explain"));
  if (operation.empty()) return usage("'explain' needs '--op'", see_help("explain"));
  if (Result<void> done = read_operation(into, operation); !done) return done;
  const bool needs_new =
      into.operation == Operation::kInsert || into.operation == Operation::kUpdate;
  const bool may_have_old =
      into.operation == Operation::kUpdate || into.operation == Operation::kDelete;
  if (needs_new && into.new_row.empty()) {
    return usage(fmt::format("'--op {}' needs '--new'", operation),
                 R"(for example --new '{"id": 1, "slug": "blue"}')");
  }
  if (into.operation == Operation::kDelete && into.old_row.empty()) {
    return usage("'--op delete' needs '--old'", R"(for example --old '{"id": 1}')");
  }
  if (!needs_new && !into.new_row.empty()) {
    return usage(fmt::format("'--op {}' has no new row", operation), "remove '--new'");
  }
  if (!may_have_old && !into.old_row.empty()) {
    return usage(fmt::format("'--op {}' has no old row", operation), "remove '--old'");
  }
  return {};
}

Result<void> check_purge(const CommandLine& into) {
  if (into.table.empty() == into.pattern.empty()) {
    return usage(into.table.empty() ? "'purge' needs '--table' or '--pattern'"
                                    : "expected one of '--table' and '--pattern', got both",
                 see_help("purge"));
  }
  return {};
}

// CLI11's own texts follow another grammar than ours.
Error translated(const CLI::ParseError& error, std::string_view verb) {
  std::string text = error.what();
  const std::size_t colon = text.find(':');
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr && colon != std::string::npos) {
    text = fmt::format("'{}' needs a value", text.substr(0, colon));
  } else if (!text.empty()) {
    text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  }
  return Error{ErrorKind::kUsage, std::move(text), see_help(verb)};
}

Error unknown_argument(const CLI::App& app, const std::string& argument, std::string_view verb) {
  if (!argument.starts_with('-')) {
    return Error{ErrorKind::kUsage, fmt::format("'{}' takes no argument '{}'", verb, argument),
                 see_help(verb)};
  }
  std::vector<std::string> names = {"--help"};
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::vector<std::string_view> views(names.begin(), names.end());
  const std::string given = argument.substr(0, argument.find('='));
  const std::string_view nearest = nearest_name(given, views);
  return Error{ErrorKind::kUsage, fmt::format("unknown option '{}' of '{}'", given, verb),
               nearest.empty() ? see_help(verb) : fmt::format("did you mean '{}'?", nearest)};
}

}  // namespace

Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments) {
  CommandLine result;
  if (arguments.empty()) return usage("expected a command", see_help(""));
  const std::string& word = arguments.front();
  if (word == "--help" || word == "-h" || word == "help") {
    if (arguments.size() > 1) result.help_topic = arguments[1];
    return result;
  }
  if (word == "--version" || word == "-V") {
    result.verb = Verb::kVersion;
    return result;
  }
  const auto found =
      std::find_if(kVerbs.begin(), kVerbs.end(), [&](const VerbName& v) { return v.name == word; });
  if (found == kVerbs.end()) {
    std::vector<std::string_view> names;
    for (const VerbName& verb : kVerbs) names.push_back(verb.name);
    return usage(fmt::format("unknown {} '{}'", word.starts_with('-') ? "option" : "command", word),
                 did_you_mean(word, names, "commands"));
  }
  result.verb = found->verb;

  std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  if (std::find(rest.begin(), rest.end(), "--help") != rest.end() ||
      std::find(rest.begin(), rest.end(), "-h") != rest.end()) {
    result.verb = Verb::kHelp;
    result.help_topic = word;
    return result;
  }
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  std::string operation;
  add_options(app, result, operation);
  try {
    std::reverse(rest.begin(), rest.end());  // CLI11 takes its arguments from the back
    app.parse(rest);
  } catch (const CLI::ParseError& error) {
    return tl::unexpected(translated(error, word));
  }
  if (const std::vector<std::string> extras = app.remaining(); !extras.empty()) {
    return tl::unexpected(unknown_argument(app, extras.front(), word));
  }
  Result<void> checked;
  if (result.verb == Verb::kExplain) checked = check_explain(result, operation);
  if (result.verb == Verb::kPurge) checked = check_purge(result);
  if (!checked) return tl::unexpected(checked.error());
  return result;
}

}  // namespace evictd
