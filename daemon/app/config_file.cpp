#include "daemon/app/config_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "daemon/base/descriptor.h"
#include "daemon/base/shortage.h"

namespace evictd {
namespace {

bool is_variable_name(std::string_view name) {
  if (name.empty() || (name.front() >= '0' && name.front() <= '9')) return false;
  for (const char c : name) {
    const bool fits =
        (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    if (!fits) return false;
  }
  return true;
}

Result<void> expand_text(YamlNode& node, const Environment& environment, Expanded how) {
  std::string expanded;
  std::string_view rest = node.text;
  while (!rest.empty()) {
    const std::size_t at = rest.find("${");
    expanded += rest.substr(0, at);
    if (at == std::string_view::npos) break;
    if (at > 0 && rest[at - 1] == '$') {  // "$${": the first '$' is already there
      expanded += '{';
      rest.remove_prefix(at + 2);
      continue;
    }
    const std::size_t end = rest.find('}', at);
    const std::string_view name =
        end == std::string_view::npos ? std::string_view() : rest.substr(at + 2, end - at - 2);
    if (!is_variable_name(name)) {
      return fail_at(node.place, "expected '${NAME}' with letters, digits and '_' in the name",
                     "write '$${' for a literal '${'");
    }
    const std::optional<std::string> value = environment(std::string(name));
    if (!value) {
      const std::string hint = how == Expanded::kShown
                                   ? fmt::format("the value of a column is '{{{0}}}', without the '$'; a variable is set before evictd starts: export {0}=...", name)
                                   : fmt::format("set it before evictd starts, for example: export {}=...", name);
      return fail_at(node.place, fmt::format("environment variable '{}' is not set", name), hint);
    }
    expanded += *value;
    node.secret = node.secret || how == Expanded::kSecret;
    rest.remove_prefix(end + 1);
  }
  node.text = std::move(expanded);
  return {};
}

// Nothing where that depends on which file it is: one that is not there.
std::string_view what_helps(int reason) {
  switch (reason) {
    case EACCES:
    case EPERM:
      return "let the user that evictd runs as read it, and pass through the folders above it";
    case EISDIR:
      return "name a file in that folder";
    case EMFILE:
    case ENFILE:
      return kFilesHint;
    default:
      return {};
  }
}

}  // namespace

Result<void> expand_variables(YamlNode& node, const Environment& environment, std::string_view except, Expanded how) {
  if (node.kind == YamlNode::Kind::kText) {
    return node.text.find("${") == std::string::npos ? Result<void>()
                                                     : expand_text(node, environment, how);
  }
  for (YamlNode& item : node.items) {
    if (Result<void> done = expand_variables(item, environment, except, how); !done) return done;
  }
  for (YamlEntry& entry : node.entries) {
    if (entry.name == except && entry.value.kind != YamlNode::Kind::kText) continue;
    if (Result<void> done = expand_variables(entry.value, environment, except, how); !done) return done;
  }
  return {};
}

std::optional<std::string> process_environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

Result<std::string> read_text_file(const std::string& file, const std::string& what) {
  const auto cannot = [&](int reason) {
    const bool is_for_a_moment = reason == EMFILE || reason == ENFILE || reason == ENOMEM;
    return fail(is_for_a_moment ? ErrorKind::kTransient : ErrorKind::kUsage,
                fmt::format("cannot read the {} '{}': {}", what, file, std::strerror(reason)), std::string(what_helps(reason)));
  };
  // Without waiting: a FIFO nobody writes to would keep its reader for ever.
  const Descriptor descriptor(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (descriptor.get() < 0) return cannot(errno);
  struct stat facts {};
  if (::fstat(descriptor.get(), &facts) != 0) return cannot(errno);
  if (S_ISDIR(facts.st_mode)) return cannot(EISDIR);
  if (!S_ISREG(facts.st_mode)) {
    return fail(ErrorKind::kUsage, fmt::format("cannot read the {} '{}': expected a file, got a pipe, device or socket", what, file),
                "it is read again at each reload, and must not keep evictd waiting: write it to a file");
  }
  std::string text;
  char buffer[8192];
  for (;;) {
    const ssize_t count = ::read(descriptor.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return cannot(errno);
    if (count == 0) return text;
    text.append(buffer, static_cast<std::size_t>(count));
    if (text.size() > kYamlBytesMax) {
      return fail(ErrorKind::kUsage, fmt::format("expected at most {} in the {} '{}', got more",
                                                 size_text(kYamlBytesMax), what, file), "is it the file that is meant?");
    }
  }
}

}  // namespace evictd
