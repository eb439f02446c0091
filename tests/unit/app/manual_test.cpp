// Help, manual page and completion know the same commands and options as the parser.
#include "daemon/app/manual.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

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

// What bash offers for a line that was typed so far.
std::string offered(const std::string& line) {
  std::string words;
  std::size_t count = 0;
  for (std::size_t begin = 0; begin <= line.size();) {
    const std::size_t end = std::min(line.find(' ', begin), line.size());
    words += "'" + line.substr(begin, end - begin) + "' ";
    ++count;
    begin = end + 1;
  }
  const std::string file = ::testing::TempDir() + "/evictd_completion.bash";
  std::ofstream(file) << bash_completion();
  const std::string command = "bash -c \"source " + file + " && COMP_WORDS=(" + words + ") COMP_CWORD=" +
                              std::to_string(count - 1) + " && _evictd; echo \\\"\\${COMPREPLY[*]}\\\"\"";
  std::string answer;
  std::FILE* pipe = popen(command.c_str(), "r");
  char buffer[256];
  while (pipe != nullptr && std::fgets(buffer, sizeof buffer, pipe) != nullptr) answer += buffer;
  if (pipe != nullptr) pclose(pipe);
  return answer;
}

TEST(Completion, OffersCommandsAndTheirOptions) {
  const std::string all = offered("evictd ");
  for (const std::string_view command : command_names()) EXPECT_THAT(all, HasSubstr(std::string(command)));
  EXPECT_EQ(offered("evictd pur"), "purge\n");
  for (const std::string_view command : command_names()) {
    const std::string options = offered("evictd " + std::string(command) + " --");
    for (const std::string& option : command_options(command)) EXPECT_THAT(options, HasSubstr(option)) << command;
  }
  EXPECT_EQ(offered("evictd explain --op de"), "delete\n");
  EXPECT_EQ(offered("evictd rules te"), "test\n");
}

}  // namespace
}  // namespace evictd
