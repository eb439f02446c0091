// What the parsers say of documents: for each text of the standard input, separated by NUL, a line "rules<TAB>config",
// each "ok" or the first line of the error, with tabs and newlines as spaces. For the tests of the schemas.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>

#include "daemon/app/config.h"
#include "daemon/app/config_file.h"
#include "mapping/rules.h"
#include "mapping/yaml.h"

namespace {

std::string one_line(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\t' || c == '\r'; }, ' ');
  return text;
}

// A variable that is not set has its name as its value.
std::optional<std::string> value_of(const std::string& name) { return evictd::process_environment(name).value_or(name); }

std::string rules_verdict(evictd::YamlNode node) {
  if (const auto done = evictd::expand_variables(node, value_of, "", evictd::Expanded::kShown); !done) return one_line(done.error().text);
  const auto rules = evictd::RuleSet::parse(node);
  return rules ? "ok" : one_line(rules.error().text);
}

std::string rules_verdict(const std::string& text) {
  const auto tree = evictd::parse_yaml(text, "f");
  return tree ? rules_verdict(*tree) : one_line(tree.error().text);
}

// With the rules that may stand inside, which are read apart from the rest.
std::string config_verdict(const std::string& text) {
  if (const auto config = evictd::parse_config(text, "f", value_of); !config) return one_line(config.error().text);
  const auto tree = evictd::parse_yaml(text, "f");
  for (const evictd::YamlEntry& entry : tree->entries) {
    if (entry.name != "rules" || entry.value.kind == evictd::YamlNode::Kind::kText) continue;
    if (std::string said = rules_verdict(entry.value); said != "ok") return said;
  }
  return "ok";
}

}  // namespace

int main() {
  const std::string all{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  std::size_t begin = 0;
  while (begin < all.size()) {
    const std::size_t end = std::min(all.find('\0', begin), all.size());
    const std::string text = all.substr(begin, end - begin);
    std::cout << rules_verdict(text) << '\t' << config_verdict(text) << '\n';
    begin = end + 1;
  }
  return 0;
}
