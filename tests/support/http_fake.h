// A small HTTP server in this process that answers as a test wants, lies included: each request is told to a function,
// which says what to write and how: whole, in drips, cut off, or never.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace evictd::testing {

struct FakeRequest {
  std::string method;
  std::string target;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

struct FakeReply {
  std::string bytes;         // status line, headers and body, as they go out
  bool is_cut = false;       // then the connection is closed
  bool hangs = false;        // and nothing more ever comes
  std::chrono::milliseconds drip{0};  // between two bytes

  static FakeReply of(int status, const std::string& body, const std::string& headers = {}) {
    return {"HTTP/1.1 " + std::to_string(status) + " Said\r\n" + headers + "Content-Length: " + std::to_string(body.size()) +
            "\r\n\r\n" + body};
  }
};

class HttpFake {
 public:
  using Answer = std::function<FakeReply(const FakeRequest&)>;

  explicit HttpFake(Answer answer) : answer_(std::move(answer)) { open(0); }
  ~HttpFake() { close(); }

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::vector<FakeRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  int connections() const { return connections_; }
  void answer_with(Answer answer) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
  }

  // Nobody listens any more; open connections break.
  void close() {
    stopping_ = true;
    if (acceptor_.joinable()) acceptor_.join();
    for (std::thread& each : threads_) each.join();
    threads_.clear();
    if (listener_ >= 0) ::close(listener_);
    listener_ = -1;
  }
  // Again, on the same port.
  void reopen() { open(port_); }

 private:
  void open(int port) {
    stopping_ = false;
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int yes = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || ::listen(listener_, 64) != 0) std::abort();
    socklen_t length = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }

  // False: the server stops, or the peer is gone.
  bool wait_readable(int descriptor) const {
    while (!stopping_) {
      pollfd one{descriptor, POLLIN, 0};
      if (::poll(&one, 1, 20) > 0) return true;
    }
    return false;
  }

  void accept_all() {
    while (wait_readable(listener_)) {
      const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (socket < 0) continue;
      ++connections_;
      threads_.emplace_back([this, socket] {
        serve(socket);
        ::close(socket);
      });
    }
  }

  void serve(int socket) {
    std::string input;
    while (true) {
      std::size_t head = std::string::npos;
      std::size_t length = 0;
      while (true) {
        head = input.find("\r\n\r\n");
        if (head != std::string::npos) {
          length = 0;
          const std::string lower = lowered(input.substr(0, head));
          if (const std::size_t at = lower.find("\ncontent-length:"); at != std::string::npos) length = std::stoul(lower.substr(at + 16));
          if (input.size() >= head + 4 + length) break;
        }
        char buffer[16384];
        if (!wait_readable(socket)) return;
        const ssize_t got = ::recv(socket, buffer, sizeof buffer, 0);
        if (got <= 0) return;
        input.append(buffer, static_cast<std::size_t>(got));
      }
      const FakeRequest request = parsed(input.substr(0, head), input.substr(head + 4, length));
      input.erase(0, head + 4 + length);
      Answer answer;
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(request);
        answer = answer_;
      }
      if (!write(socket, answer(request))) return;
    }
  }

  static std::string lowered(std::string text) {
    for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return text;
  }

  static FakeRequest parsed(const std::string& head, std::string body) {
    FakeRequest request;
    request.body = std::move(body);
    const std::size_t line = head.find("\r\n");
    const std::string first = head.substr(0, line);
    request.method = first.substr(0, first.find(' '));
    request.target = first.substr(request.method.size() + 1, first.rfind(' ') - request.method.size() - 1);
    for (std::size_t at = line; at != std::string::npos;) {
      const std::size_t next = head.find("\r\n", at + 2);
      const std::string one = head.substr(at + 2, next == std::string::npos ? next : next - at - 2);
      const std::size_t colon = one.find(": ");
      if (colon != std::string::npos) request.headers[lowered(one.substr(0, colon))] = one.substr(colon + 2);
      at = next;
    }
    return request;
  }

  // False: this connection is over.
  bool write(int socket, const FakeReply& reply) const {
    const std::size_t step = reply.drip.count() > 0 ? 1 : reply.bytes.size();
    for (std::size_t sent = 0; sent < reply.bytes.size() && !stopping_; sent += step) {
      if (::send(socket, reply.bytes.data() + sent, step, MSG_NOSIGNAL) <= 0) return false;
      if (reply.drip.count() > 0) {
        pollfd nothing{socket, 0, 0};
        ::poll(&nothing, 1, static_cast<int>(reply.drip.count()));
      }
    }
    while (reply.hangs && !stopping_) {
      pollfd one{socket, POLLIN, 0};
      char c = 0;
      if (::poll(&one, 1, 20) > 0 && ::recv(socket, &c, 1, 0) <= 0) return false;
    }
    return !reply.is_cut && !stopping_;
  }

  mutable std::mutex mutex_;
  Answer answer_;
  std::vector<FakeRequest> requests_;
  std::atomic<int> connections_{0};
  std::atomic<bool> stopping_{false};
  int listener_ = -1;
  int port_ = 0;
  std::thread acceptor_;
  std::vector<std::thread> threads_;
};

}  // namespace evictd::testing
