#include "daemon/app/command_line.h"

#include <gtest/gtest.h>

namespace evictd {
namespace {

std::string error_of(const std::vector<std::string>& arguments) {
  const Result<CommandLine> line = parse_command_line(arguments);
  if (line) return "no error";
  EXPECT_EQ(line.error().kind, ErrorKind::kUsage);
  return line.error().to_string();
}

TEST(CommandLine, ReadsEachCommand) {
  const auto verb = [](const char* word) { return parse_command_line({word})->verb; };
  EXPECT_EQ(verb("run"), Verb::kRun);
  EXPECT_EQ(verb("check"), Verb::kCheck);
  EXPECT_EQ(verb("watch"), Verb::kWatch);
  EXPECT_EQ(verb("drop"), Verb::kDrop);
  EXPECT_EQ(verb("lua"), Verb::kLua);
  EXPECT_EQ(verb("--version"), Verb::kVersion);
  EXPECT_EQ(verb("--help"), Verb::kHelp);
  EXPECT_EQ(parse_command_line({"run"})->config, "evictd.yaml");
  EXPECT_EQ(parse_command_line({"run", "-c", "x.yaml"})->config, "x.yaml");
  EXPECT_EQ(parse_command_line({"run", "--config=x.yaml"})->config, "x.yaml");
}

TEST(CommandLine, ReadsTheOptionsOfCheckPurgeAndDrop) {
  const Result<CommandLine> check = parse_command_line({"check", "--offline", "--json"});
  EXPECT_TRUE(check->offline);
  EXPECT_TRUE(check->json);
  const Result<CommandLine> purge =
      parse_command_line({"purge", "--pattern", "product:*", "--yes"});
  EXPECT_EQ(purge->pattern, "product:*");
  EXPECT_TRUE(purge->yes);
  EXPECT_EQ(parse_command_line({"purge", "--table", "products"})->table, "products");
  EXPECT_TRUE(parse_command_line({"drop", "--yes"})->yes);
  EXPECT_TRUE(parse_command_line({"lua", "--scripts"})->scripts);
}

TEST(CommandLine, ReadsAudit) {
  const Result<CommandLine> line = parse_command_line(
      {"audit", "--rule", "r", "--sample", "10", "--for", "5m", "--rate", "7", "--fix", "--json"});
  ASSERT_TRUE(line) << line.error().to_string();
  EXPECT_EQ(line->rule, "r");
  EXPECT_EQ(line->samples, 10u);
  EXPECT_EQ(line->time, std::chrono::minutes(5));
  EXPECT_EQ(line->rate, 7u);
  EXPECT_TRUE(line->fix);
  EXPECT_TRUE(line->json);
  EXPECT_EQ(parse_command_line({"audit"})->samples, std::nullopt);
  EXPECT_EQ(error_of({"audit", "--sample", "0"}),
            "'--sample': expected a number from 1 to 1000000000, got '0'\nhint: see 'evictd audit --help'");
  EXPECT_EQ(error_of({"audit", "--for", "5"}),
            "'--for': expected a duration such as 30s, 5m or 2h, got '5'\nhint: see 'evictd audit --help'");
}

TEST(CommandLine, ReadsWarm) {
  const Result<CommandLine> line = parse_command_line({"warm", "--rule", "r", "--where", "id < 5", "--rate", "70"});
  ASSERT_TRUE(line) << line.error().to_string();
  EXPECT_EQ(line->verb, Verb::kWarm);
  EXPECT_EQ(line->rule, "r");
  EXPECT_EQ(line->where, "id < 5");
  EXPECT_EQ(line->per_second, 70u);
  EXPECT_EQ(parse_command_line({"warm", "--rule", "r"})->per_second, std::nullopt) << "as the rule says";
  EXPECT_EQ(error_of({"warm"}), "'warm' needs '--rule'\nhint: see 'evictd warm --help'");
  EXPECT_EQ(error_of({"warm", "--rule", "r", "--rate", "0"}),
            "'--rate': expected a number from 1 to 100000, got '0'\nhint: see 'evictd warm --help'");
}

TEST(CommandLine, ReadsExplain) {
  const Result<CommandLine> line =
      parse_command_line({"explain", "--table", "products", "--op", "update", "--new",
                          R"({"id": -1})", "--identity", "id,tenant"});
  ASSERT_TRUE(line) << line.error().to_string();
  EXPECT_EQ(line->table, "products");
  EXPECT_EQ(line->operation, Operation::kUpdate);
  EXPECT_EQ(line->new_row, R"({"id": -1})");
  EXPECT_EQ(line->identity, (std::vector<std::string>{"id", "tenant"}));
  EXPECT_EQ(parse_command_line({"explain", "--table", "p", "--op", "truncate"})->identity,
            std::vector<std::string>{"id"});
}

TEST(CommandLine, HelpWinsOverWhatIsMissing) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"explain", "--help"},
                                                    {"explain", "-h"},
                                                    {"--help", "explain"},
                                                    {"help", "explain"}}) {
    const Result<CommandLine> line = parse_command_line(arguments);
    ASSERT_TRUE(line);
    EXPECT_EQ(line->verb, Verb::kHelp);
    EXPECT_EQ(line->help_topic, "explain");
  }
}

TEST(CommandLine, SaysWhatIsWrong) {
  EXPECT_EQ(error_of({}), "expected a command\nhint: see 'evictd --help'");
  EXPECT_EQ(error_of({"rnu"}), "unknown command 'rnu'\nhint: did you mean 'run'?");
  EXPECT_EQ(error_of({"-c", "x"}),
            "unknown option '-c'\nhint: known commands: 'run', 'check', 'audit', 'explain', 'watch', "
            "'purge', 'warm', 'drop', 'lua', 'rules', 'init', 'completion', 'man'");
  EXPECT_EQ(error_of({"check", "--ofline"}),
            "unknown option '--ofline' of 'check'\nhint: did you mean '--offline'?");
  EXPECT_EQ(error_of({"check", "--zzz=1"}),
            "unknown option '--zzz' of 'check'\nhint: see 'evictd check --help'");
  EXPECT_EQ(error_of({"run", "fast"}),
            "'run' takes no argument 'fast'\nhint: see 'evictd run --help'");
  EXPECT_EQ(error_of({"completion", "tcsh"}),
            "expected 'bash', 'zsh' or 'fish' after 'completion', got 'tcsh'\nhint: see 'evictd completion --help'");
  EXPECT_EQ(error_of({"run", "-c"}), "'--config' needs a value\nhint: see 'evictd run --help'");
  EXPECT_EQ(error_of({"run", "-c", "a", "-c", "b"}), "'--config' is given more than once\nhint: see 'evictd run --help'");
  EXPECT_EQ(error_of({"purge", "--table", "x", "--table=y"}), "'--table' is given more than once\nhint: see 'evictd purge --help'");
  EXPECT_EQ(error_of({"explain"}), "'explain' needs '--table' or '--from-table'\nhint: see 'evictd explain --help'");
  EXPECT_EQ(error_of({"explain", "--table", "p"}),
            "'explain' needs '--op'\nhint: see 'evictd explain --help'");
  EXPECT_EQ(error_of({"explain", "--table", "p", "--op", "updat"}),
            "expected insert, update, delete or truncate, got 'updat'\nhint: did you mean "
            "'update'?");
  EXPECT_EQ(error_of({"explain", "--table", "p", "--op", "insert"}),
            "'--op insert' needs '--new'\nhint: for example --new '{\"id\": 1, \"slug\": "
            "\"blue\"}'");
  EXPECT_EQ(error_of({"explain", "--table", "p", "--op", "delete"}),
            "'--op delete' needs '--old'\nhint: for example --old '{\"id\": 1}'");
  EXPECT_EQ(error_of({"explain", "--table", "p", "--op", "truncate", "--new", "{}"}),
            "'--op truncate' has no new row\nhint: remove '--new'");
  EXPECT_EQ(error_of({"explain", "--table", "p", "--op", "insert", "--new", "{}", "--old", "{}"}),
            "'--op insert' has no old row\nhint: remove '--old'");
  EXPECT_EQ(error_of({"purge"}),
            "'purge' needs '--table', '--since' or '--pattern'\nhint: see 'evictd purge --help'");
  EXPECT_EQ(error_of({"purge", "--table", "t", "--pattern", "p"}),
            "expected one of '--table' and '--pattern', got both\nhint: see 'evictd purge --help'");
}

TEST(CommandLine, ReadsWhatOperatorsAreGiven) {
  EXPECT_TRUE(parse_command_line({"check", "--sql"})->sql);
  EXPECT_TRUE(parse_command_line({"check", "--acl"})->acl);
  EXPECT_EQ(error_of({"check", "--acl", "--sql"}),
            "expected one of '--json', '--sql' and '--acl', got several\nhint: see 'evictd check --help'");
  EXPECT_EQ(parse_command_line({"rules", "test", "a.yaml", "-c", "x.yaml", "b.yaml"})->case_files,
            (std::vector<std::string>{"a.yaml", "b.yaml"}));
  EXPECT_EQ(error_of({"rules"}), "'rules' needs 'test'\nhint: see 'evictd rules --help'");
  EXPECT_EQ(error_of({"rules", "tset", "x"}), "expected 'test' after 'rules', got 'tset'\nhint: see 'evictd rules --help'");
  EXPECT_EQ(error_of({"rules", "test"}), "'rules test' needs a file of cases\nhint: for example evictd rules test cases.yaml");
  EXPECT_EQ(parse_command_line({"init", "--postgres", "a", "--redis", "b", "--out", "c"})->directory, "c");
  EXPECT_EQ(error_of({"init", "--postgres", "a"}), "'init' needs '--redis'\nhint: see 'evictd init --help'");
  EXPECT_EQ(parse_command_line({"purge", "--since", "10m"})->since, std::chrono::minutes(10));
  EXPECT_EQ(error_of({"purge", "--since", "10"}),
            "'--since': expected a time like 90s, 10m, 2h or 3d, got '10'\nhint: see 'evictd purge --help'");
  EXPECT_EQ(error_of({"purge", "--where", "x"}), "'--where' needs '--table'\nhint: see 'evictd purge --help'");
  EXPECT_EQ(error_of({"purge", "--pattern", "x", "--since", "1h"}),
            "'--where' and '--since' choose rows of a table, and '--pattern' names keys\nhint: say '--table' in place of '--pattern'");
  // What a script did not set is not "everything".
  EXPECT_EQ(error_of({"purge", "--table", "p", "--where", ""}), "'--where': expected a value, got an empty text\nhint: see 'evictd purge --help'");
  EXPECT_EQ(error_of({"purge", "--table", "p", "--since", ""}), "'--since': expected a value, got an empty text\nhint: see 'evictd purge --help'");
  const Result<CommandLine> rows = parse_command_line({"explain", "--from-table", "p", "--where", "id = 1", "--limit", "3"});
  EXPECT_TRUE(rows->from_table);
  EXPECT_EQ(rows->table, "p");
  EXPECT_EQ(rows->limit, 3u);
  EXPECT_FALSE(rows->has_operation);
  EXPECT_EQ(error_of({"explain", "--from-table", "p", "--new", "{}"}),
            "'--new' needs '--op update'\nhint: it says which columns of the row change");
}

TEST(Help, EveryCommandHasItsOwnWithAnExample) {
  for (const std::string_view topic : command_names()) {
    const std::string text = help_text(topic);
    EXPECT_TRUE(text.starts_with("usage: evictd " + std::string(topic))) << text;
    EXPECT_NE(text.find("\nexample: evictd " + std::string(topic)), std::string::npos) << text;
    EXPECT_NE(help_text("").find("\n  " + std::string(topic) + " "), std::string::npos) << topic;
  }
}

TEST(Help, FitsATerminal) {
  std::vector<std::string_view> topics = command_names();
  topics.emplace_back("");
  for (const std::string_view topic : topics) {
    std::size_t begin = 0;
    const std::string text = help_text(topic);
    for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      EXPECT_LE(end - begin, 80u) << text.substr(begin, end - begin);
    }
  }
}

}  // namespace
}  // namespace evictd
