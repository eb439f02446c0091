#include "daemon/sinks/redis/glob.h"

#include <algorithm>

namespace evictd {
namespace {

// The class that begins behind the '[' at text[at - 1]; `at` is left behind it.
std::bitset<256> read_class(std::string_view text, std::size_t& at) {
  const auto byte_at = [text](std::size_t index) { return static_cast<unsigned char>(text[index]); };
  // Ranges compare as C's char does, where Redis usually runs: bytes beyond ASCII are below all others.
  const auto signed_at = [text](std::size_t index) -> int { return static_cast<signed char>(text[index]); };
  std::bitset<256> bytes;
  const bool turned = at < text.size() && text[at] == '^';
  if (turned) ++at;
  for (; at < text.size() && text[at] != ']'; ++at) {
    if (text[at] == '\\' && at + 1 < text.size()) {
      bytes.set(byte_at(++at));
    } else if (at + 2 < text.size() && text[at + 1] == '-') {  // whatever follows is its end, a ']' too
      const auto [low, high] = std::minmax({signed_at(at), signed_at(at + 2)});
      for (int byte = low; byte <= high; ++byte) bytes.set(static_cast<unsigned char>(byte));
      at += 2;
    } else {
      bytes.set(byte_at(at));
    }
  }
  if (at < text.size()) ++at;
  return turned ? ~bytes : bytes;
}

}  // namespace

Glob::Glob(std::string_view text) : is_everything_(text == "*") {
  const auto add = [this](Step step) {
    if (step.kind == Kind::kByte && steps_.empty()) {
      prefix_ += static_cast<char>(step.byte);
    } else {
      steps_.push_back(step);
    }
  };
  std::size_t at = 0;
  while (at < text.size()) {
    char letter = text[at++];
    if (letter == '*') {
      if (steps_.empty() || steps_.back().kind != Kind::kMany) add({Kind::kMany});
    } else if (letter == '?') {
      add({Kind::kAny});
    } else if (letter == '[') {
      classes_.push_back(read_class(text, at));
      add({Kind::kOneOf, 0, static_cast<std::uint32_t>(classes_.size() - 1)});
    } else {
      if (letter == '\\' && at < text.size()) letter = text[at++];
      add({Kind::kByte, static_cast<unsigned char>(letter)});
    }
  }
}

bool Glob::takes(const Step& step, unsigned char byte) const {
  if (step.kind == Kind::kByte) return step.byte == byte;
  return step.kind == Kind::kAny || classes_[step.one_of].test(byte);
}

std::optional<std::string> Glob::sample() const {
  std::string name = prefix_;
  for (const Step& step : steps_) {
    if (step.kind == Kind::kByte) {
      name += static_cast<char>(step.byte);
    } else if (step.kind != Kind::kOneOf) {
      name += 'x';
    } else {
      const Bytes& bytes = classes_[step.one_of];
      if (bytes.none()) return std::nullopt;
      std::size_t byte = 'x';
      for (std::size_t i = 0; i < bytes.size() && !bytes.test(byte); ++i) byte = (byte + 1) % bytes.size();
      // Rather a letter or a digit than a sign.
      for (const char plain : std::string_view("abcdefghijklmnopqrstuvwyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")) {
        if (!bytes.test('x') && bytes.test(static_cast<unsigned char>(plain))) {
          byte = static_cast<unsigned char>(plain);
          break;
        }
      }
      name += static_cast<char>(byte);
    }
  }
  return name;
}

bool Glob::matches(std::string_view name) const {
  // To Redis, '*' alone is no glob but everything; others never match an empty name.
  if (name.empty()) return prefix_.empty() && (steps_.empty() || is_everything_);
  if (!name.starts_with(prefix_)) return false;
  name.remove_prefix(prefix_.size());
  // Every step but '*' takes one byte, so that only the last '*' met may have to take one more.
  std::size_t step = 0;
  std::size_t at = 0;
  std::size_t behind_many = 0;  // the step after the last '*'; 0: none was met
  std::size_t many_until = 0;   // where that '*' ends so far
  while (at < name.size()) {
    if (step < steps_.size() && steps_[step].kind == Kind::kMany) {
      behind_many = ++step;
      many_until = at;
      if (step == steps_.size()) return true;
    } else if (step < steps_.size() && takes(steps_[step], static_cast<unsigned char>(name[at]))) {
      ++step;
      ++at;
    } else if (behind_many > 0) {
      step = behind_many;
      at = ++many_until;
    } else {
      return false;
    }
  }
  while (step < steps_.size() && steps_[step].kind == Kind::kMany) ++step;
  return step == steps_.size();
}

std::string glob_of_prefix(std::string_view prefix) {
  std::string glob;
  for (const char letter : prefix) {
    if (std::string_view("*?[\\").find(letter) != std::string_view::npos) glob += '\\';
    glob += letter;
  }
  return glob + '*';
}

std::string_view common_prefix(std::string_view a, std::string_view b) {
  const std::size_t most = std::min(a.size(), b.size());
  const auto differ = std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(most), b.begin());
  return a.substr(0, static_cast<std::size_t>(differ.first - a.begin()));
}

}  // namespace evictd
