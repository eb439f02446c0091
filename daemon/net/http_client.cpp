#include "daemon/net/http_client.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "daemon/base/poll.h"
#include "daemon/base/special_file.h"
#include "mapping/check.h"

namespace evictd {
namespace {

struct Transfer {
  std::uint64_t id = 0;
  CURL* handle = nullptr;
  curl_slist* headers = nullptr;
  std::string sent;  // the body, which libcurl reads from here
  HttpAnswer answer;
  std::size_t header_bytes = 0;
  const HttpClientOptions* options = nullptr;
  std::string_view too_much;  // which limit the answer broke
  char error[CURL_ERROR_SIZE] = {};

  ~Transfer() {
    curl_easy_cleanup(handle);
    curl_slist_free_all(headers);
  }
};

std::size_t take_body(char* data, std::size_t, std::size_t size, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  if (transfer.answer.body.size() + size > transfer.options->body_bytes_max) {
    transfer.too_much = "body";
    return 0;
  }
  transfer.answer.body.append(data, size);
  return size;
}

std::size_t take_header(char* data, std::size_t, std::size_t size, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  transfer.header_bytes += size;
  if (transfer.header_bytes > transfer.options->header_bytes_max) {
    transfer.too_much = "head";
    return 0;
  }
  std::string_view line(data, size);
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) transfer.answer.headers.clear();  // 100 Continue had some of its own
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size;
  std::string name(line.substr(0, colon));
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  std::string_view value = line.substr(colon + 1);
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  transfer.answer.headers[name] = std::string(value);
  return size;
}

std::string_view class_of(CURLcode code) {
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
      return "timeout";
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
      return "tls";
    case CURLE_WRITE_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
      return "protocol";
    default:
      return "connection";
  }
}

}  // namespace

struct HttpClient::Impl {
  HttpClientOptions options;
  CURLM* multi = nullptr;
  std::map<curl_socket_t, short> sockets;  // poll(2)'s events
  SteadyTime deadline = SteadyTime::max();
  std::map<CURL*, std::unique_ptr<Transfer>> transfers;
  std::vector<Finished> failed;  // which could not even be begun
  std::uint64_t connections = 0;

  static int watch(CURL*, curl_socket_t socket, int what, void* user, void*) {
    auto& self = *static_cast<Impl*>(user);
    if (what == CURL_POLL_REMOVE) {
      self.sockets.erase(socket);
    } else {
      short events = 0;
      if ((what & CURL_POLL_IN) != 0) events |= POLLIN;
      if ((what & CURL_POLL_OUT) != 0) events |= POLLOUT;
      self.sockets[socket] = events;
    }
    return 0;
  }

  static int set_timer(CURLM*, long milliseconds, void* user) {
    auto& self = *static_cast<Impl*>(user);
    self.deadline = milliseconds < 0 ? SteadyTime::max()
                                     : std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
    return 0;
  }

  Finished finished(Transfer& transfer, CURLcode code) {
    Finished one;
    one.id = transfer.id;
    long made = 0;
    curl_easy_getinfo(transfer.handle, CURLINFO_NUM_CONNECTS, &made);
    connections += static_cast<std::uint64_t>(std::max(made, 0L));
    if (code == CURLE_OK) {
      curl_easy_getinfo(transfer.handle, CURLINFO_RESPONSE_CODE, &transfer.answer.status);
      one.answer = std::move(transfer.answer);
      return one;
    }
    one.error_class = class_of(code);
    one.is_too_long = !transfer.too_much.empty();
    if (one.is_too_long) {
      one.problem = fmt::format("the {} of the answer is longer than {} bytes", transfer.too_much,
                                transfer.too_much == "body" ? options.body_bytes_max : options.header_bytes_max);
    } else if (code == CURLE_OUT_OF_MEMORY) {
      one.problem = "memory ran out, or one line of the answer's head is longer than 100 KB, which is libcurl's limit";
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
      one.problem = fmt::format("no answer within {} ms", options.timeout.count());
    } else {
      one.problem = transfer.error[0] != 0 ? transfer.error : curl_easy_strerror(code);
    }
    std::replace_if(one.problem.begin(), one.problem.end(), [](char c) { return c < 0x20 || c > 0x7e; }, ' ');
    return one;
  }
};

HttpClient::HttpClient(HttpClientOptions options) : impl_(std::make_unique<Impl>()) {
  static std::once_flag once;
  std::call_once(once, [] { EVICTD_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK); });
  impl_->options = std::move(options);
  impl_->multi = curl_multi_init();
  EVICTD_CHECK(impl_->multi != nullptr);
  curl_multi_setopt(impl_->multi, CURLMOPT_SOCKETFUNCTION, Impl::watch);
  curl_multi_setopt(impl_->multi, CURLMOPT_SOCKETDATA, impl_.get());
  curl_multi_setopt(impl_->multi, CURLMOPT_TIMERFUNCTION, Impl::set_timer);
  curl_multi_setopt(impl_->multi, CURLMOPT_TIMERDATA, impl_.get());
  const long connections = static_cast<long>(impl_->options.connections_max);
  curl_multi_setopt(impl_->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connections);
  curl_multi_setopt(impl_->multi, CURLMOPT_MAXCONNECTS, connections);
}

HttpClient::~HttpClient() {
  cancel_all();
  curl_multi_cleanup(impl_->multi);
}

void HttpClient::begin(std::uint64_t id, const HttpCall& call) {
  if (const auto why = why_not_to_open(impl_->options.ca_file)) {
    impl_->failed.push_back({id, std::nullopt, fmt::format("ca '{}': {}", impl_->options.ca_file, *why), "tls", false});
    return;
  }
  auto transfer = std::make_unique<Transfer>();
  transfer->id = id;
  transfer->options = &impl_->options;
  CURL* handle = transfer->handle = curl_easy_init();
  EVICTD_CHECK(handle != nullptr);
  for (const auto& [name, value] : call.headers) {
    // "Name;" sends a header without a value; "Name:" would leave it out.
    const std::string line = value.empty() ? name + ";" : name + ": " + value;
    transfer->headers = curl_slist_append(transfer->headers, line.c_str());
  }
  transfer->headers = curl_slist_append(transfer->headers, "Expect:");
  transfer->sent = call.body;
  curl_easy_setopt(handle, CURLOPT_URL, call.url.c_str());
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
  if (!transfer->sent.empty() || call.method == "POST" || call.method == "PUT") {
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, static_cast<long>(transfer->sent.size()));
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, transfer->sent.data());
  }
  curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, call.method.c_str());
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, transfer->headers);
  curl_easy_setopt(handle, CURLOPT_USERAGENT, "evictd");
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, 2L);
  curl_easy_setopt(handle, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!impl_->options.ca_file.empty()) curl_easy_setopt(handle, CURLOPT_CAINFO, impl_->options.ca_file.c_str());
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(impl_->options.connect_timeout.count()));
  curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(impl_->options.timeout.count()));
  curl_easy_setopt(handle, CURLOPT_MAXLIFETIME_CONN, static_cast<long>(impl_->options.lifetime_max.count()));
  curl_easy_setopt(handle, CURLOPT_DNS_CACHE_TIMEOUT, static_cast<long>(impl_->options.lifetime_max.count()));
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, transfer.get());
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, transfer.get());
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, transfer->error);
  if (const CURLMcode added = curl_multi_add_handle(impl_->multi, handle); added != CURLM_OK) {
    impl_->failed.push_back({id, std::nullopt, curl_multi_strerror(added), "connection", false});
    return;
  }
  impl_->transfers.emplace(handle, std::move(transfer));
}

std::vector<HttpClient::Finished> HttpClient::step() {
  std::vector<Finished> finished = std::exchange(impl_->failed, {});
  if (impl_->transfers.empty()) return finished;
  int running = 0;
  std::vector<curl_socket_t> sockets;
  for (const auto& [socket, events] : impl_->sockets) sockets.push_back(socket);
  for (const curl_socket_t socket : sockets) {
    // Looks by itself what the socket is ready for; one that was closed meanwhile is no longer known.
    if (impl_->sockets.contains(socket)) curl_multi_socket_action(impl_->multi, socket, 0, &running);
  }
  if (impl_->deadline <= std::chrono::steady_clock::now()) {
    impl_->deadline = SteadyTime::max();
    curl_multi_socket_action(impl_->multi, CURL_SOCKET_TIMEOUT, 0, &running);
  }
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(impl_->multi, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    CURL* handle = message->easy_handle;
    const auto place = impl_->transfers.find(handle);
    finished.push_back(impl_->finished(*place->second, code));
    curl_multi_remove_handle(impl_->multi, handle);
    impl_->transfers.erase(place);
  }
  return finished;
}

void HttpClient::wait_for(Waiting& waiting) {
  if (!impl_->failed.empty()) waiting.wake_at(SteadyTime::min());
  for (const auto& [socket, events] : impl_->sockets) waiting.descriptors.push_back(pollfd{socket, events, 0});
  if (!impl_->transfers.empty()) waiting.wake_at(impl_->deadline);
}

void HttpClient::cancel_all() {
  for (const auto& [handle, transfer] : impl_->transfers) curl_multi_remove_handle(impl_->multi, handle);
  impl_->transfers.clear();
  impl_->failed.clear();
}

std::uint64_t HttpClient::connections() const { return impl_->connections; }

HttpClient::Finished ask_http(const HttpCall& call, const HttpClientOptions& options, const std::atomic<bool>* is_cancelled) {
  constexpr std::chrono::milliseconds kLook{200};  // whether it is cancelled
  HttpClient client(options);
  client.begin(0, call);
  while (true) {
    if (std::vector<HttpClient::Finished> finished = client.step(); !finished.empty()) return std::move(finished.front());
    if (is_cancelled != nullptr && is_cancelled->load()) return {0, std::nullopt, "cancelled", "connection", false};
    Waiting waiting;
    client.wait_for(waiting);
    waiting.wake_at(std::chrono::steady_clock::now() + kLook);
    wait_for_any(waiting);
  }
}

}  // namespace evictd
