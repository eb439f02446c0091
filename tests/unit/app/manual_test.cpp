// Help, manual page and completion know the same commands and options as the parser.
#include "daemon/app/manual.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <ostream>
#include <string>
#include <utility>

#include "daemon/app/command_line.h"

namespace evictd {
namespace {

using ::testing::HasSubstr;

std::string escaped_dashes(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '-' ? std::string("\\-") : std::string(1, c);
  return out;
}

TEST(Manual, EveryOptionOfTheParserIsInItsHelpAndEveryOptionOfTheHelpIsParsed) {
  for (const std::string_view command : command_names()) {
    const std::string help = help_text(command);
    const std::vector<std::string> options = command_options(command);
    for (const std::string& option : options) EXPECT_THAT(help, HasSubstr(option + " ")) << command;
    for (std::size_t at = help.find("      --"); at != std::string::npos; at = help.find("      --", at + 1)) {
      const std::size_t begin = at + 6;
      const std::string named = help.substr(begin, help.find_first_of(" \n", begin) - begin);
      EXPECT_THAT(options, ::testing::Contains(named)) << command;
    }
  }
}

TEST(Manual, ThePageHasEveryCommandAndOption) {
  const std::string page = manual_page("1.2-3");
  EXPECT_THAT(page, HasSubstr(".TH EVICTD 1 \"\" \"evictd 1.2\\-3\""));
  for (const std::string_view command : command_names()) {
    EXPECT_THAT(page, HasSubstr(".SS " + std::string(command) + "\n"));
    for (const std::string& option : command_options(command)) EXPECT_THAT(page, HasSubstr(escaped_dashes(option))) << command;
  }
  EXPECT_THAT(page, ::testing::Not(HasSubstr("\n'")));  // troff would take it for a command
}

std::string answer_of(const std::string& command) {
  std::string answer;
  std::FILE* pipe = popen(command.c_str(), "r");
  char buffer[256];
  while (pipe != nullptr && std::fgets(buffer, sizeof buffer, pipe) != nullptr) answer += buffer;
  if (pipe != nullptr) pclose(pipe);
  return answer;
}
std::string file_of(const std::string& shell, const std::string& text) {
  std::string file = ::testing::TempDir() + "/evictd_completion." + shell;
  std::ofstream(file) << text;
  return file;
}
// 'evictd' 'purge' ''
std::pair<std::string, std::size_t> words_of(const std::string& line) {
  std::string words;
  std::size_t count = 0;
  for (std::size_t begin = 0; begin <= line.size(); ++count) {
    const std::size_t end = std::min(line.find(' ', begin), line.size());
    words += "'" + line.substr(begin, end - begin) + "' ";
    begin = end + 1;
  }
  return {words, count};
}

// What a shell offers for a line that was typed so far, one or more words on each line.
std::string bash_offers(const std::string& line) {
  const auto [words, count] = words_of(line);
  return answer_of("bash -c \"source " + file_of("bash", bash_completion()) + " && COMP_WORDS=(" + words + ") COMP_CWORD=" +
                   std::to_string(count - 1) + " && _evictd; printf '%s\\n' \\\"\\${COMPREPLY[@]}\\\"\"");
}
// Its own line editor is not there: compadd, which matches, is replaced by one that prints what fits.
std::string zsh_offers(const std::string& line) {
  const auto [words, count] = words_of(line);
  return answer_of("zsh -fc \"compdef() {}; compadd() { shift; print -l -- \\${(M)@:#\\${words[CURRENT]}*} }; _files() { print FILES }; source " +
                   file_of("zsh", zsh_completion()) + "; words=(" + words + ") CURRENT=" + std::to_string(count) + "; _evictd\"");
}
std::string fish_offers(const std::string& line) {
  return answer_of("HOME=" + ::testing::TempDir() + " fish --no-config -c \"source " + file_of("fish", fish_completion()) + "; complete -C '" + line + "'\"");
}

struct Shell {
  std::string name;
  std::string (*offers)(const std::string& line);
};
void PrintTo(const Shell& shell, std::ostream* out) { *out << shell.name; }
class Completion : public ::testing::TestWithParam<Shell> {};

TEST_P(Completion, OffersCommandsAndTheirOptions) {
  const auto [shell, offers] = GetParam();
  if (std::system(("command -v " + shell + " >/dev/null").c_str()) != 0) {
    ASSERT_EQ(std::getenv("EVICTD_REQUIRE_SERVERS"), nullptr) << shell << " is required here: deploy/packages.sh install test";
    GTEST_SKIP() << "no " << shell << " here: deploy/packages.sh install test";
  }
  const std::string all = offers("evictd ");
  for (const std::string_view command : command_names()) EXPECT_THAT(all, HasSubstr(std::string(command)));
  EXPECT_EQ(offers("evictd pur"), "purge\n");
  for (const std::string_view command : command_names()) {
    const std::string options = offers("evictd " + std::string(command) + " --");
    for (const std::string& option : command_options(command)) EXPECT_THAT(options, HasSubstr(option + "\n")) << command;
    EXPECT_THAT(options, HasSubstr("--help\n")) << command;
  }
  EXPECT_EQ(offers("evictd explain --op de"), "delete\n");
  EXPECT_EQ(offers("evictd rules te"), "test\n");
  EXPECT_EQ(offers("evictd completion z"), "zsh\n");
}
INSTANTIATE_TEST_SUITE_P(Shells, Completion, ::testing::Values(Shell{"bash", bash_offers}, Shell{"zsh", zsh_offers}, Shell{"fish", fish_offers}),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace evictd
