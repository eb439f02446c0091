#include "tests/support/redis_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "mapping/check.h"

namespace evictd::testing {
namespace {

sockaddr_in loopback(int port) {
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(static_cast<std::uint16_t>(port));
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return where;
}

bool answers(int port) {
  const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in where = loopback(port);
  const bool connected =
      ::connect(probe, reinterpret_cast<const sockaddr*>(&where), sizeof(where)) == 0;
  ::close(probe);
  return connected;
}

}  // namespace

std::string redis_server_program() {
  if (const char* given = std::getenv("EVICTD_REDIS_PROGRAM")) return given;
  for (const char* path : {"/usr/bin/redis-server", "/usr/local/bin/redis-server"}) {
    if (std::filesystem::exists(path)) return path;
  }
  return {};
}

bool servers_are_required() {
  const char* const value = std::getenv("EVICTD_REQUIRE_SERVERS");
  return value != nullptr && std::string_view(value) == "1";
}

RedisClient::RedisClient(int port) {
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in where = loopback(port);
  EVICTD_CHECK(::connect(socket_, reinterpret_cast<const sockaddr*>(&where), sizeof(where)) == 0);
}

RedisClient::~RedisClient() { ::close(socket_); }

void RedisClient::send(const std::vector<std::string>& arguments) {
  std::string out;
  append_command_head(out, arguments.size());
  for (const std::string& argument : arguments) append_argument(out, argument);
  std::size_t written = 0;
  while (written < out.size()) {
    const ssize_t sent = ::send(socket_, out.data() + written, out.size() - written, MSG_NOSIGNAL);
    EVICTD_CHECK(sent > 0);
    written += static_cast<std::size_t>(sent);
  }
}

Reply RedisClient::receive() {
  while (true) {
    auto next = reader_.next();
    EVICTD_CHECK(next.has_value());
    if (next->has_value()) return std::move(**next);
    char bytes[16384];
    const ssize_t got = ::recv(socket_, bytes, sizeof(bytes), 0);
    EVICTD_CHECK(got > 0);
    reader_.feed(std::string_view(bytes, static_cast<std::size_t>(got)));
  }
}

Reply RedisClient::command(const std::vector<std::string>& arguments) {
  send(arguments);
  return receive();
}

Reply RedisClient::command(std::initializer_list<std::string_view> arguments) {
  return command(std::vector<std::string>(arguments.begin(), arguments.end()));
}

std::string RedisClient::get(std::string_view key) {
  const Reply reply = command({"GET", key});
  return reply.kind == Reply::Kind::kNil ? "(nil)" : reply.text;
}

void RedisClient::set(std::string_view key, std::string_view value) {
  EVICTD_CHECK(command({"SET", key, value}).is_ok());
}

bool RedisClient::exists(std::string_view key) { return integer({"EXISTS", key}) == 1; }

long long RedisClient::integer(std::initializer_list<std::string_view> arguments) {
  const Reply reply = command(arguments);
  EVICTD_CHECK(reply.kind == Reply::Kind::kInteger);
  return reply.integer;
}

RedisServer::RedisServer(std::vector<std::string> settings, const std::string& file)
    : settings_(std::move(settings)), port_(free_port()) {
  std::string name = (std::filesystem::temp_directory_path() / "evictd-redis-XXXXXX").string();
  EVICTD_CHECK(::mkdtemp(name.data()) != nullptr);
  directory_ = name;
  if (!file.empty()) {
    file_ = directory_ + "/conf";
    std::ofstream(file_) << file;
  }
  launch();
  wait_until_it_answers();
}

RedisServer::~RedisServer() {
  client_.reset();
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void RedisServer::launch() {
  std::vector<std::string> arguments = {redis_server_program(),
                                        "--port",
                                        std::to_string(port_),
                                        "--bind",
                                        "127.0.0.1",
                                        "--save",
                                        "",
                                        "--appendonly",
                                        "no",
                                        "--dir",
                                        directory_,
                                        "--logfile",
                                        directory_ + "/log"};
  if (!file_.empty()) arguments.insert(arguments.begin() + 1, file_);
  arguments.insert(arguments.end(), settings_.begin(), settings_.end());
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  pid_ = ::fork();
  EVICTD_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that aborts leaves no server behind, which would keep ctest waiting
    ::execv(pointers[0], pointers.data());
    ::_exit(127);
  }
}

void RedisServer::wait_until_it_answers() {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!answers(port_)) {
    // Its log says why it ended.
    EVICTD_CHECK(::waitpid(pid_, nullptr, WNOHANG) == 0);
    EVICTD_CHECK(std::chrono::steady_clock::now() < deadline);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void RedisServer::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void RedisServer::start_again() {
  EVICTD_CHECK(pid_ < 0);
  client_.reset();
  launch();
  wait_until_it_answers();
}

void RedisServer::freeze() { ::kill(pid_, SIGSTOP); }
void RedisServer::thaw() { ::kill(pid_, SIGCONT); }

RedisClient& RedisServer::client() {
  if (!client_) client_ = std::make_unique<RedisClient>(port_);
  return *client_;
}

}  // namespace evictd::testing
