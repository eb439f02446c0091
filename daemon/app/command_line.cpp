#include "daemon/app/command_line.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>

#include "mapping/did_you_mean.h"
#include "mapping/rules.h"
#include "mapping/yaml.h"

namespace evictd {
namespace {

struct VerbName {
  std::string_view name;
  Verb verb;
};
constexpr std::array kVerbs = {VerbName{"run", Verb::kRun},         VerbName{"check", Verb::kCheck},
                               VerbName{"audit", Verb::kAudit},
                               VerbName{"explain", Verb::kExplain}, VerbName{"watch", Verb::kWatch},
                               VerbName{"purge", Verb::kPurge},     VerbName{"warm", Verb::kWarm},
                               VerbName{"drop", Verb::kDrop},
                               VerbName{"lua", Verb::kLua},         VerbName{"rules", Verb::kRules},
                               VerbName{"init", Verb::kInit},       VerbName{"completion", Verb::kCompletion},
                               VerbName{"man", Verb::kMan}};
constexpr std::array kOperations = {Operation::kInsert, Operation::kUpdate, Operation::kDelete,
                                    Operation::kTruncate};

tl::unexpected<Error> usage(std::string text, std::string hint) {
  return fail(ErrorKind::kUsage, std::move(text), std::move(hint));
}

std::string see_help(std::string_view verb) {
  return verb.empty() ? "see 'evictd --help'" : fmt::format("see 'evictd {} --help'", verb);
}

// The values of 'audit' as they were written.
struct AuditTexts {
  std::string samples;
  std::string time;
  std::string rate;
};

Result<std::uint64_t> read_number(const std::string& option, const std::string& text, std::uint64_t most, std::string_view verb = "audit") {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 1 || number > most) {
    return usage(fmt::format("'{}': expected a number from 1 to {}, got '{}'", option, most, text), see_help(verb));
  }
  return number;
}

Result<void> check_audit(CommandLine& into, const AuditTexts& texts) {
  if (!texts.samples.empty()) {
    const Result<std::uint64_t> samples = read_number("--sample", texts.samples, 1'000'000'000);
    if (!samples) return tl::unexpected(samples.error());
    into.samples = *samples;
  }
  if (!texts.rate.empty()) {
    const Result<std::uint64_t> rate = read_number("--rate", texts.rate, 100'000);
    if (!rate) return tl::unexpected(rate.error());
    into.rate = *rate;
  }
  if (!texts.time.empty()) {
    YamlNode node;
    node.kind = YamlNode::Kind::kText;
    node.text = texts.time;
    const Result<std::chrono::milliseconds> time = yaml_duration(node, std::chrono::seconds(1), std::chrono::hours(24 * 30));
    if (!time) return usage(fmt::format("'--for': expected a duration such as 30s, 5m or 2h, got '{}'", texts.time), see_help("audit"));
    into.time = *time;
  }
  return {};
}

// What the parser reads before it is understood.
struct Words {
  std::string operation;
  std::string from_table;
  std::string since;
  std::vector<std::string> positional;
  AuditTexts audit;
};

// The options of each command, for the parser, "did you mean" and the completion.
void add_options(CLI::App& app, CommandLine& into, Words& words) {
  AuditTexts& audit = words.audit;
  std::string& operation = words.operation;
  switch (into.verb) {
    case Verb::kAudit:
      app.add_option("--rule", into.rule);
      app.add_option("--sample", audit.samples);
      app.add_option("--for", audit.time);
      app.add_option("--rate", audit.rate);
      app.add_flag("--fix", into.fix);
      app.add_flag("--json", into.json);
      break;
    case Verb::kCheck:
      app.add_flag("--offline", into.offline);
      app.add_flag("--json", into.json);
      app.add_flag("--sql", into.sql);
      app.add_flag("--acl", into.acl);
      break;
    case Verb::kRules:
      app.add_option("words", words.positional);
      break;
    case Verb::kInit:
      app.add_option("--postgres", into.postgres_url);
      app.add_option("--redis", into.redis_url);
      app.add_option("--out", into.directory);
      return;  // makes the configuration, and reads none
    case Verb::kCompletion:
      app.add_option("shell", into.shell);
      return;
    case Verb::kMan:
      return;
    case Verb::kExplain:
      app.add_option("--table", into.table);
      app.add_option("--from-table", words.from_table);
      app.add_option("--where", into.where);
      app.add_option("--limit", into.limit)->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1000}));
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
      app.add_option("--where", into.where);
      app.add_option("--since", words.since);
      app.add_flag("--yes", into.yes);
      break;
    case Verb::kWarm:
      app.add_option("--rule", into.rule);
      app.add_option("--where", into.where);
      app.add_option("--rate", words.audit.rate);
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

// Rows as they are in the table: what a change of them would delete.
Result<void> check_explain_rows(CommandLine& into, const std::string& operation) {
  if (!into.table.empty()) return usage("expected one of '--table' and '--from-table', got both", see_help("explain"));
  if (!into.old_row.empty()) {
    return usage("'--old' is the row in the table with '--from-table'", "remove '--old', or say '--table'");
  }
  if (!operation.empty()) {
    if (Result<void> done = read_operation(into, operation); !done) return done;
    into.has_operation = true;
    if (into.operation == Operation::kTruncate) return usage("'--op truncate' has no row", "say '--table' in place of '--from-table'");
  }
  if (!into.new_row.empty() && (!into.has_operation || into.operation != Operation::kUpdate)) {
    return usage("'--new' needs '--op update'", "it says which columns of the row change");
  }
  return {};
}

Result<void> check_explain(CommandLine& into, const Words& words) {
  const std::string& operation = words.operation;
  if (!words.from_table.empty()) {
    if (Result<void> done = check_explain_rows(into, operation); !done) return done;
    into.from_table = true;
    into.table = words.from_table;
    return {};
  }
  if (!into.where.empty()) return usage("'--where' needs '--from-table'", see_help("explain"));
  if (into.table.empty()) return usage("'explain' needs '--table' or '--from-table'", see_help("explain"));
  into.has_operation = true;
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

// "90s", "10m", "2h", "3d".
std::optional<std::chrono::milliseconds> read_age(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end + 1 != text.data() + text.size() || number == 0 || number > 100'000) return std::nullopt;
  switch (*end) {
    case 's':
      return std::chrono::seconds(number);
    case 'm':
      return std::chrono::minutes(number);
    case 'h':
      return std::chrono::hours(number);
    case 'd':
      return std::chrono::hours(24 * number);
    default:
      return std::nullopt;
  }
}

Result<void> check_purge(CommandLine& into, const Words& words) {
  if (!words.since.empty()) {
    into.since = read_age(words.since);
    if (!into.since) return usage(fmt::format("'--since': expected a time like 90s, 10m, 2h or 3d, got '{}'", words.since), see_help("purge"));
  }
  if (!into.pattern.empty() && (!into.where.empty() || into.since)) {
    return usage("'--where' and '--since' choose rows of a table, and '--pattern' names keys", "say '--table' in place of '--pattern'");
  }
  if (!into.where.empty() && into.table.empty()) return usage("'--where' needs '--table'", see_help("purge"));
  if (into.since && into.table.empty()) return {};  // of every table
  if (into.table.empty() == into.pattern.empty()) {
    return usage(into.table.empty() ? "'purge' needs '--table', '--since' or '--pattern'"
                                    : "expected one of '--table' and '--pattern', got both",
                 see_help("purge"));
  }
  return {};
}

Result<void> check_rules(CommandLine& into, const Words& words) {
  const std::vector<std::string>& given = words.positional;
  if (given.empty() || given.front() != "test") {
    return usage(given.empty() ? "'rules' needs 'test'" : fmt::format("expected 'test' after 'rules', got '{}'", given.front()),
                 see_help("rules"));
  }
  if (given.size() == 1) return usage("'rules test' needs a file of cases", "for example evictd rules test cases.yaml");
  into.case_files.assign(given.begin() + 1, given.end());
  return {};
}

Result<void> check_warm(CommandLine& into, const Words& words) {
  if (into.rule.empty()) return usage("'warm' needs '--rule'", see_help("warm"));
  if (words.audit.rate.empty()) return {};
  const Result<std::uint64_t> rate = read_number("--rate", words.audit.rate, kRefreshPerSecondMax, "warm");
  if (!rate) return tl::unexpected(rate.error());
  into.per_second = *rate;
  return {};
}

Result<void> check_init(const CommandLine& into) {
  if (into.postgres_url.empty()) return usage("'init' needs '--postgres'", see_help("init"));
  if (into.redis_url.empty()) return usage("'init' needs '--redis'", see_help("init"));
  return {};
}

Result<void> check_check(const CommandLine& into) {
  const int forms = (into.json ? 1 : 0) + (into.sql ? 1 : 0) + (into.acl ? 1 : 0);
  if (forms > 1) return usage("expected one of '--json', '--sql' and '--acl', got several", see_help("check"));
  return {};
}

// CLI11's own texts follow another grammar than ours.
Error translated(const CLI::ParseError& error, std::string_view verb) {
  std::string text = error.what();
  const std::size_t colon = text.find(':');
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr && colon != std::string::npos) {
    const bool is_too_many = text.find("At Most", colon) != std::string::npos;
    text = fmt::format("'{}' {}", text.substr(0, colon), is_too_many ? "is given more than once" : "needs a value");
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
  Words words;
  add_options(app, result, words);
  try {
    std::reverse(rest.begin(), rest.end());  // CLI11 takes its arguments from the back
    app.parse(rest);
  } catch (const CLI::ParseError& error) {
    return tl::unexpected(translated(error, word));
  }
  if (const std::vector<std::string> extras = app.remaining(); !extras.empty()) {
    return tl::unexpected(unknown_argument(app, extras.front(), word));
  }
  // "$CONDITION" of a script, which is not set: an empty --where would purge the whole table.
  for (const CLI::Option* option : app.get_options()) {
    const std::vector<std::string>& given = option->results();
    if (std::find(given.begin(), given.end(), "") == given.end()) continue;
    return usage(fmt::format("'{}': expected a value, got an empty text", option->get_name()), see_help(word));
  }
  Result<void> checked;
  if (result.verb == Verb::kExplain) checked = check_explain(result, words);
  if (result.verb == Verb::kPurge) checked = check_purge(result, words);
  if (result.verb == Verb::kRules) checked = check_rules(result, words);
  if (result.verb == Verb::kWarm) checked = check_warm(result, words);
  if (result.verb == Verb::kInit) checked = check_init(result);
  if (result.verb == Verb::kCheck) checked = check_check(result);
  if (result.verb == Verb::kCompletion && result.shell != "bash" && result.shell != "zsh" && result.shell != "fish") {
    return usage(fmt::format("expected 'bash', 'zsh' or 'fish' after 'completion', got '{}'", result.shell), see_help(word));
  }
  if (result.verb == Verb::kAudit) checked = check_audit(result, words.audit);
  if (!checked) return tl::unexpected(checked.error());
  return result;
}

std::vector<std::string_view> command_names() {
  std::vector<std::string_view> names;
  for (const VerbName& verb : kVerbs) names.push_back(verb.name);
  return names;
}

std::vector<std::string> command_options(std::string_view command) {
  std::vector<std::string> options;
  CommandLine into;
  for (const VerbName& verb : kVerbs) {
    if (verb.name == command) into.verb = verb.verb;
  }
  CLI::App app;
  app.set_help_flag();
  Words words;
  add_options(app, into, words);
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) options.push_back("--" + name);
  }
  return options;
}

}  // namespace evictd
