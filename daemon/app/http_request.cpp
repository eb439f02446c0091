#include "daemon/app/http_request.h"

#include <algorithm>

namespace evictd {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_name(std::string_view left, std::string_view right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](char a, char b) { return lower(a) == lower(b); });
}

bool is_address(std::string_view host) {
  if (host.find(':') != std::string_view::npos) return true;  // only IPv6 has one
  return !host.empty() && std::all_of(host.begin(), host.end(),
                                      [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
}

std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) {
    const std::size_t end = host.find(']');
    return end == std::string_view::npos ? host : host.substr(1, end - 1);
  }
  return host.substr(0, host.find(':'));
}

bool read_request_line(std::string_view line, HttpRequest& request) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == 0 || last <= first + 1) return false;
  if (!line.substr(last + 1).starts_with("HTTP/1.")) return false;
  std::string_view target = line.substr(first + 1, last - first - 1);
  if (!target.starts_with('/') || target.find(' ') != std::string_view::npos) return false;
  request.method = line.substr(0, first);
  const std::size_t end = std::min(target.find('?'), target.size());
  request.path = target.substr(0, end);
  request.query = target.substr(std::min(end + 1, target.size()));
  return true;
}

}  // namespace

HttpRead read_request(std::string_view bytes, HttpRequest& request) {
  const std::size_t end = bytes.find("\r\n\r\n");
  if (std::min(end, bytes.size()) > kRequestBytesMax) return HttpRead::kTooLong;
  if (end == std::string_view::npos) return HttpRead::kIncomplete;
  std::string_view head = bytes.substr(0, end);
  const auto next_line = [&head] {
    const std::size_t length = std::min(head.find("\r\n"), head.size());
    const std::string_view line = head.substr(0, length);
    head.remove_prefix(std::min(length + 2, head.size()));
    return line;
  };
  HttpRequest read;
  if (!read_request_line(next_line(), read)) return HttpRead::kBad;
  bool has_host = false;
  while (!head.empty()) {
    const std::string_view line = next_line();
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return HttpRead::kBad;
    if (!same_name(line.substr(0, colon), "host")) continue;
    if (has_host) return HttpRead::kBad;
    has_host = true;
    std::string_view value = line.substr(colon + 1);
    while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
    while (value.ends_with(' ') || value.ends_with('\t')) value.remove_suffix(1);
    read.host = without_port(value);
  }
  request = std::move(read);
  return HttpRead::kComplete;
}

bool is_own_host(std::string_view host, std::string_view configured, std::string_view machine) {
  return host.empty() || is_address(host) || same_name(host, "localhost") ||
         same_name(host, configured) || same_name(host, machine);
}

}  // namespace evictd
