// Drives the built program: what a person sees and what a service manager gets for an exit code.
// Needs no server.
#include <fcntl.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace evictd {
namespace {

using testing::HasSubstr;

struct Outcome {
  int exit_code = -1;
  std::string out;
  std::string err;
};

class Cli : public testing::Test {
 protected:
  Cli() {
    char name[] = "/tmp/evictd-cli-XXXXXX";
    folder_ = mkdtemp(name);
    write("rules.yaml", "rules:\n  - table: products\n    keys: [\"product:{id}\"]\n");
  }
  ~Cli() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name) << text;
  }
  std::string read(const std::string& name) const {
    std::ifstream in(folder_ / name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  // A configuration whose servers do not answer.
  void write_config(const std::string& more = "") {
    write("evictd.yaml",
          "postgres: {url: \"postgresql://127.0.0.1:1/shop\"}\n"
          "redis: {url: \"redis://127.0.0.1:1\"}\nhttp: {listen: \"127.0.0.1:0\"}\n"
          "rules: rules.yaml\n" +
              more);
  }

  pid_t start(std::vector<std::string> arguments) {
    const pid_t child = fork();
    if (child != 0) return child;
    // Only the child changes its folder and descriptors; messages then show relative names.
    if (chdir(folder_.c_str()) != 0) _exit(99);
    const int in = open("/dev/null", O_RDONLY);
    const int out = open("out", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err = open("err", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(in, 0);
    dup2(out, 1);
    dup2(err, 2);
    std::vector<char*> argv;
    std::string program = EVICTD_PROGRAM;
    argv.push_back(program.data());
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    execv(EVICTD_PROGRAM, argv.data());
    _exit(98);
  }

  Outcome finish(pid_t child) {
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), read("out"), read("err")};
  }

  Outcome run(std::vector<std::string> arguments) { return finish(start(std::move(arguments))); }

  // Until a file holds the text; the test fails after a while.
  void wait_for(const std::string& name, const std::string& text) {
    for (int i = 0; i < 2000; ++i) {
      if (read(name).find(text) != std::string::npos) return;
      usleep(10'000);
    }
    FAIL() << "expected '" << text << "' in:\n" << read(name);
  }

  std::filesystem::path folder_;
};

TEST_F(Cli, VersionAndHelp) {
  const Outcome version = run({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.out, testing::MatchesRegex("evictd [0-9]+[.][0-9]+[.][0-9]+\n"));
  const Outcome help = run({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, testing::StartsWith("evictd keeps a Redis cache true to its database.\n"));
  EXPECT_EQ(help.err, "");
}

TEST_F(Cli, WrongUsageIsExitCodeTwoAndTwoLines) {
  const Outcome wrong = run({"rnu"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_EQ(wrong.out, "");
  EXPECT_EQ(wrong.err, "unknown command 'rnu'\nhint: did you mean 'run'?\n");
  EXPECT_EQ(run({}).exit_code, 2);
}

TEST_F(Cli, AWrongConfigurationIsExitCodeTwoAndPlaced) {
  write_config("htp: {}\n");
  for (const char* command : {"run", "watch", "drop"}) {
    const Outcome wrong = run({command});
    EXPECT_EQ(wrong.exit_code, 2) << command;
    EXPECT_EQ(wrong.err,
              "evictd.yaml:5:1: unknown setting 'htp' in the configuration\n"
              "hint: did you mean 'http'?\n")
        << command;
  }
  EXPECT_EQ(run({"purge", "--table", "products"}).exit_code, 2);
}

TEST_F(Cli, WrongRulesAreExitCodeTwoAndPlaced) {
  write_config();
  write("rules.yaml", "rules:\n  - table: products\n    kyes: [\"product:{id}\"]\n");
  const Outcome wrong = run({"run"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_EQ(wrong.err,
            "rules.yaml:3:5: unknown setting 'kyes' in the rule for 'products'\n"
            "hint: did you mean 'keys'?\n");
}

TEST_F(Cli, AMissingConfigurationIsExitCodeTwo) {
  const Outcome missing = run({"run"});
  EXPECT_EQ(missing.exit_code, 2);
  EXPECT_EQ(missing.err,
            "cannot read the configuration 'evictd.yaml': No such file or directory\n"
            "hint: name it with -c FILE, or let 'evictd init' propose one\n");
}

TEST_F(Cli, CheckOffline) {
  write_config();
  const Outcome good = run({"check", "--offline"});
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_EQ(good.out, "files, 1 rule for 1 table: nothing to say\nall is well\n");
  const Outcome json = run({"check", "--offline", "--json"});
  EXPECT_EQ(json.exit_code, 0);
  EXPECT_EQ(json.out, "{\"ok\":true,\"errors\":0,\"warnings\":0,\"findings\":[]}\n");
  write_config("log: {level: loud}\n");
  const Outcome wrong = run({"check", "--offline"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_EQ(wrong.out,
            "files\n  CF001 error  files\n"
            "    evictd.yaml:5:14: 'level': expected 'debug', 'info', 'warning' or 'error', got "
            "'loud'\n1 error, 0 warnings\n");
}

TEST_F(Cli, ExplainNeedsOnlyTheRules) {
  write("evictd.yaml", "postgres: {url: \"${EVICTD_TEST_UNSET}\"}\nrules: rules.yaml\n");
  const Outcome explained =
      run({"explain", "--table", "products", "--op", "insert", "--new", R"({"id": 1})"});
  EXPECT_EQ(explained.exit_code, 0) << explained.err;
  EXPECT_EQ(explained.out,
            "insert of public.products\n"
            "  key    product:1  rule 'public.products' (rules.yaml:2:5)\n"
            "1 invalidation\n");
}

TEST_F(Cli, PurgeOfAnUnknownPatternNeedsYes) {
  write_config();
  const Outcome wrong = run({"purge", "--pattern", "*"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_EQ(wrong.err,
            "no rule has the pattern '*': it may match keys that are no cache\n"
            "hint: add --yes to delete what matches all the same\n");
  const Outcome table = run({"purge", "--table", "product"});
  EXPECT_EQ(table.exit_code, 2);
  EXPECT_EQ(table.err,
            "no rule names the table 'public.product'\nhint: did you mean 'public.products'?\n");
}

TEST_F(Cli, LuaNeedsNoConfiguration) {
  const Outcome library = run({"lua"});
  EXPECT_EQ(library.exit_code, 0) << library.err;
  EXPECT_THAT(library.out, testing::StartsWith("#!lua name=evictd\n"));
  const Outcome scripts = run({"lua", "--scripts"});
  EXPECT_EQ(scripts.exit_code, 0) << scripts.err;
  EXPECT_THAT(scripts.out, HasSubstr("-- evictd_fill "));
  EXPECT_EQ(run({"lua", "-c", "none.yaml"}).exit_code, 2);
}

TEST_F(Cli, DropWithoutATerminalNeedsYes) {
  write_config();
  const Outcome wrong = run({"drop"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_EQ(wrong.err,
            "'drop' asks before it removes anything, and there is no terminal\nhint: add --yes\n");
}

TEST_F(Cli, RunWaitsForItsServersAndStopsWhenAsked) {
  write_config();
  const pid_t child = start({"run"});
  wait_for("err", "evictd ");
  wait_for("err", "127.0.0.1:1");
  EXPECT_EQ(kill(child, SIGTERM), 0);
  const Outcome stopped = finish(child);
  EXPECT_EQ(stopped.exit_code, 0) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("stopped"));
}

TEST_F(Cli, AReloadOfWrongRulesKeepsTheOldOnes) {
  write_config();
  const pid_t child = start({"run"});
  wait_for("err", "evictd ");
  write("rules.yaml", "rules: [{table: products}]\n");
  EXPECT_EQ(kill(child, SIGHUP), 0);
  wait_for("err", "the rules were not reloaded: the old ones stay");
  EXPECT_THAT(read("err"), HasSubstr("rules.yaml:1:9: "));
  write("rules.yaml",
        "rules: [{table: products, keys: [\"p:{id}\"]}, {table: a, keys: [\"a:{id}\"]}]\n");
  EXPECT_EQ(kill(child, SIGHUP), 0);
  // Good rules, but nobody is there to say whether the tables have such columns.
  wait_for("err", "cannot compare the rules with the tables: PostgreSQL is not connected (hint: they are compared as soon as it is)");
  wait_for("err", "the rules are reloaded later: until then the old ones stay");
  EXPECT_EQ(kill(child, SIGTERM), 0);
  EXPECT_EQ(finish(child).exit_code, 0);
}

TEST_F(Cli, AnAddressInUseIsExitCodeOne) {
  write_config();
  const std::string config = read("evictd.yaml");
  const std::string listen = "192.0.2.1:9464";  // of a documentation network: never ours
  write("evictd.yaml", std::string(config).replace(config.find("127.0.0.1:0"), 11, listen));
  const Outcome failed = run({"run"});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_THAT(failed.err,
              HasSubstr("cannot listen on '192.0.2.1:9464': Cannot assign requested address"));
}

}  // namespace
}  // namespace evictd
