#include "daemon/sources/kafka/doctor/connect_rest.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <memory>

#include "daemon/sources/kafka/json_level.h"

namespace evictd {
namespace {

constexpr timeval kTimeout{5, 0};              // of each part
constexpr auto kAnswerMax = std::chrono::seconds(20);  // of the whole, however slowly it comes
constexpr std::size_t kBodyMax = 16 * 1024 * 1024;

struct Descriptor {
  int number = -1;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

// HTTP 1.0, so that the answer ends with the connection and comes in one piece.
Result<std::string> get(const std::string& host, const std::string& port, const std::string& path) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &hints, &found) != 0) {
    return fail(ErrorKind::kTransient, fmt::format("cannot resolve '{}'", host));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, ::freeaddrinfo);
  Descriptor socket;
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    Descriptor attempt{::socket(address->ai_family, address->ai_socktype, address->ai_protocol)};
    ::setsockopt(attempt.number, SOL_SOCKET, SO_RCVTIMEO, &kTimeout, sizeof kTimeout);
    ::setsockopt(attempt.number, SOL_SOCKET, SO_SNDTIMEO, &kTimeout, sizeof kTimeout);
    if (::connect(attempt.number, address->ai_addr, address->ai_addrlen) == 0) {
      std::swap(socket.number, attempt.number);
      break;
    }
  }
  if (socket.number < 0) {
    return fail(ErrorKind::kTransient, fmt::format("cannot connect to '{}:{}'", host, port));
  }
  const std::string request =
      fmt::format("GET {} HTTP/1.0\r\nHost: {}:{}\r\n\r\n", path, host, port);
  if (::send(socket.number, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return fail(ErrorKind::kTransient, fmt::format("cannot send to '{}:{}'", host, port));
  }
  std::string answer;
  char buffer[16 * 1024];
  ssize_t count = 0;
  const auto deadline = std::chrono::steady_clock::now() + kAnswerMax;
  while (answer.size() < kBodyMax && std::chrono::steady_clock::now() < deadline &&
         (count = ::recv(socket.number, buffer, sizeof buffer, 0)) > 0) {
    answer.append(buffer, static_cast<std::size_t>(count));
  }
  const std::size_t body = answer.find("\r\n\r\n");
  const std::string_view status = std::string_view(answer).substr(0, answer.find("\r\n"));
  if (body == std::string::npos || status.find(" 200 ") == std::string_view::npos) {
    return fail(ErrorKind::kTransient,
                fmt::format("expected status 200 of '{}:{}', got '{}'", host, port, status));
  }
  return answer.substr(body + 4);
}

}  // namespace

Result<ConnectorSettings> read_connectors(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  if (url.find('@') != std::string_view::npos) {
    return fail(ErrorKind::kUsage, "expected 'http://host:port', got an address with a user or password");
  }
  if (!url.starts_with(kScheme)) {
    return fail(ErrorKind::kUsage, fmt::format("expected 'http://host:port', got '{}'", url));
  }
  url.remove_prefix(kScheme.size());
  url = url.substr(0, url.find('/'));
  const std::size_t colon = url.rfind(':');
  const bool has_port =
      colon != std::string_view::npos && url.find(']', colon) == std::string_view::npos;
  const std::string host(url.substr(0, has_port ? colon : url.size()));
  auto body =
      get(host, has_port ? std::string(url.substr(colon + 1)) : "8083", "/connectors?expand=info");
  if (!body) return tl::unexpected(body.error());
  return parse_connectors(*body);
}

Result<ConnectorSettings> parse_connectors(std::string_view json) {
  ConnectorSettings connectors;
  PaddedText padded;
  JsonLevel all;
  if (auto read = all.read_object(padded.assign(json)); !read) return tl::unexpected(read.error());
  for (const JsonField& connector : all.fields()) {
    if (connector.value.kind != JsonKind::kObject) continue;
    JsonLevel expanded, info, config;
    if (!expanded.read_object(connector.value.text)) continue;
    const JsonValue* inside = expanded.find("info");
    if (inside == nullptr || inside->kind != JsonKind::kObject || !info.read_object(inside->text))
      continue;
    const JsonValue* settings = info.find("config");
    if (settings == nullptr || settings->kind != JsonKind::kObject) continue;
    if (!config.read_object(settings->text)) continue;
    auto& known = connectors[std::string(connector.name)];
    for (const JsonField& setting : config.fields()) {
      if (setting.value.kind == JsonKind::kString)
        known[std::string(setting.name)] = setting.value.text;
    }
  }
  return connectors;
}

}  // namespace evictd
