#include "daemon/app/manual.h"

#include <fmt/core.h>

#include <vector>

#include "daemon/app/command_line.h"

namespace evictd {
namespace {

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return lines;
}

// Text that troff takes as it stands: no command at the beginning of a line, no escape, and '-' as it is typed.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  if (out.starts_with('.') || out.starts_with('\'')) out.insert(0, "\\&");
  return out;
}

std::size_t indent_of(std::string_view line) { return std::min(line.find_first_not_of(' '), line.size()); }

// "  -c, --config FILE   the configuration": the part before two blanks, and the rest.
bool split_option(std::string_view line, std::string_view& option, std::string_view& meaning) {
  const std::size_t begin = indent_of(line);
  if (begin == 0 || begin >= line.size() || line[begin] != '-') return false;
  const std::string_view rest = line.substr(begin);
  const std::size_t gap = rest.find("  ");
  option = rest.substr(0, gap);
  meaning = gap == std::string_view::npos ? std::string_view() : rest.substr(gap);
  meaning.remove_prefix(std::min(meaning.find_first_not_of(' '), meaning.size()));
  return true;
}

// Paragraphs are filled by troff; what is indented (options apart) and usage lines stand as they are.
void append_help(std::string& out, std::string_view text) {
  bool is_literal = false;
  bool in_option = false;
  const auto literal = [&](bool wanted) {
    if (wanted != is_literal) out += wanted ? ".PP\n.nf\n" : ".fi\n.PP\n";
    is_literal = wanted;
  };
  for (const std::string_view line : lines_of(text)) {
    std::string_view option;
    std::string_view meaning;
    if (line.empty()) {
      if (!is_literal) out += ".PP\n";
      in_option = false;
      continue;
    }
    if (split_option(line, option, meaning)) {
      literal(false);
      out += fmt::format(".TP\n.B {}\n", escaped(option));
      if (!meaning.empty()) out += escaped(meaning) + "\n";
      in_option = true;
      continue;
    }
    if (in_option) {
      out += escaped(line.substr(indent_of(line))) + "\n";
      continue;
    }
    literal(line.starts_with(' ') || line.starts_with("usage: ") || line.starts_with("example: "));
    out += escaped(line) + "\n";
  }
  literal(false);
}

}  // namespace

std::string manual_page(std::string_view version) {
  std::string out = fmt::format(
      ".\\\" Made by 'evictd man' from its help texts.\n.TH EVICTD 1 \"\" \"evictd {}\" \"User Commands\"\n.SH NAME\n"
      "evictd \\- keeps a Redis cache true to its database\n.SH SYNOPSIS\n.B evictd\n.I command\n"
      "[\\-c evictd.yaml] [options]\n.SH DESCRIPTION\n",
      escaped(version));
  // The overview without its first lines, which are above.
  std::string_view overview;
  const std::string help = help_text("");
  overview = help;
  overview.remove_prefix(overview.find("\n\n", overview.find("usage:")) + 2);
  append_help(out, overview);
  out += ".SH COMMANDS\n";
  for (const std::string_view name : command_names()) {
    out += fmt::format(".SS {}\n", escaped(name));
    append_help(out, help_text(name));
  }
  out +=
      ".SH FILES\n.TP\n.I /etc/evictd/evictd.yaml\nthe configuration of the packaged service\n.TP\n"
      ".I /etc/evictd/rules.yaml\nits rules\n.SH SIGNALS\n.TP\n.B SIGHUP\n"
      "read the rules again\n.TP\n.B SIGTERM\nfinish what is in hand, and end\n"
      ".SH ENVIRONMENT\nWhat the configuration names as ${VAR}; PGPASSWORD and PGPASSFILE as libpq reads them; NO_COLOR.\n"
      ".SH SEE ALSO\n.BR psql (1),\n.BR redis\\-cli (1)\n.br\nThe documents in /usr/share/doc/evictd/docs.\n";
  return out;
}

std::string bash_completion() {
  std::string commands;
  std::string cases;
  for (const std::string_view name : command_names()) {
    commands += fmt::format("{}{}", commands.empty() ? "" : " ", name);
    std::string options;
    for (const std::string& option : command_options(name)) options += option + " ";
    cases += fmt::format("    {}) options='{}--help' ;;\n", name, options);
  }
  std::string out = fmt::format(R"(# Completion of evictd for bash. Made by 'evictd completion'.
_evictd() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} options=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '{} --help --version' -- "$word"))
    return
  fi
  case "$previous" in
    -c|--config) COMPREPLY=($(compgen -f -- "$word")); return ;;
    --out) COMPREPLY=($(compgen -d -- "$word")); return ;;
    --op) COMPREPLY=($(compgen -W 'insert update delete truncate' -- "$word")); return ;;
  esac
  case "$command" in
{}    help) options='{}' ;;
  esac
  if [ "$command" = rules ] && [ "$COMP_CWORD" -eq 2 ]; then options="test $options"; fi
  if [ "$command" = completion ] && [ "$COMP_CWORD" -eq 2 ]; then options="bash zsh fish $options"; fi
  COMPREPLY=($(compgen -W "$options" -- "$word"))
  if [ "$command" = rules ] && [ "$COMP_CWORD" -gt 2 ] && [ "${{#COMPREPLY[@]}}" -eq 0 ]; then
    COMPREPLY=($(compgen -f -- "$word"))
  fi
}}
complete -o filenames -F _evictd evictd
)",
                                commands, cases, commands);
  return out;
}

std::string zsh_completion() {
  std::string commands;
  std::string cases;
  for (const std::string_view name : command_names()) {
    commands += fmt::format("{} ", name);
    std::string options;
    for (const std::string& option : command_options(name)) options += option + " ";
    cases += fmt::format("    {}) offered=({}--help) ;;\n", name, options);
  }
  // Autoloaded it is the function's body; sourced it defines the function and says what for.
  return fmt::format(R"(#compdef evictd
# Completion of evictd for zsh. Made by 'evictd completion zsh'.
_evictd() {{
  local -a offered
  if (( CURRENT == 2 )); then
    compadd -- {}--help --version
    return
  fi
  case ${{words[CURRENT-1]}} in
    -c|--config) _files; return ;;
    --out) _files -/; return ;;
    --op) compadd -- insert update delete truncate; return ;;
  esac
  case ${{words[2]}} in
{}    help) offered=({}) ;;
  esac
  if [[ ${{words[2]}} == rules ]]; then
    if (( CURRENT == 3 )); then offered=(test $offered); else _files; fi
  fi
  if [[ ${{words[2]}} == completion ]] && (( CURRENT == 3 )); then offered=(bash zsh fish $offered); fi
  compadd -- $offered
}}
if [[ ${{zsh_eval_context[-1]}} == loadautofunc ]]; then _evictd "$@"; else compdef _evictd evictd; fi
)",
                     commands, cases, commands);
}

std::string fish_completion() {
  std::string out = "# Completion of evictd for fish. Made by 'evictd completion fish'.\ncomplete -c evictd -f\n";
  std::string commands;
  for (const std::string_view name : command_names()) {
    commands += fmt::format("{}{}", commands.empty() ? "" : " ", name);
    for (const std::string& option : command_options(name)) {
      if (option.compare(0, 2, "--") != 0) continue;  // a short one is told beside the long one
      std::string_view more;
      if (option == "--config") more = " -s c -r -F";
      if (option == "--out") more = " -x -a '(__fish_complete_directories)'";
      if (option == "--op") more = " -x -a 'insert update delete truncate'";
      out += fmt::format("complete -c evictd -n '__fish_seen_subcommand_from {}' -l {}{}\n", name, option.substr(2), more);
    }
    out += fmt::format("complete -c evictd -n '__fish_seen_subcommand_from {}' -l help\n", name);
  }
  out += fmt::format("complete -c evictd -n __fish_use_subcommand -a '{} help'\n", commands);
  out += "complete -c evictd -n __fish_use_subcommand -l help\ncomplete -c evictd -n __fish_use_subcommand -l version\n";
  out += fmt::format("complete -c evictd -n '__fish_seen_subcommand_from help' -a '{}'\n", commands);
  out += "complete -c evictd -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n";
  out += "complete -c evictd -n '__fish_seen_subcommand_from rules' -a test\n"
         "complete -c evictd -n '__fish_seen_subcommand_from rules; and __fish_seen_subcommand_from test' -F\n";
  return out;
}

}  // namespace evictd
