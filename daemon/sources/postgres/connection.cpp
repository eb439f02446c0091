#include "daemon/sources/postgres/connection.h"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <map>

#include "daemon/base/special_file.h"
#include "mapping/check.h"

namespace evictd {
namespace {

using ResultOwner = std::unique_ptr<PGresult, decltype(&PQclear)>;

constexpr int kConnectSeconds = 10;
constexpr std::chrono::milliseconds kIdleReadInterval{5};

// With verbosity "verbose" an error of the connection phase reads "FATAL:  28P01: text\nLOCATION:
// ...": the only way to learn its SQLSTATE. The severity may be translated, the shape is not.
void split_connect_error(std::string& text, std::string& sqlstate) {
  if (const auto location = text.find("\nLOCATION:"); location != std::string::npos)
    text.resize(location);
  for (auto colon = text.find(":  "); colon != std::string::npos;
       colon = text.find(":  ", colon + 1)) {
    const std::string_view code = std::string_view(text).substr(colon + 3, 5);
    const bool is_code = code.size() == 5 && text.compare(colon + 8, 2, ": ") == 0 &&
                         std::all_of(code.begin(), code.end(), [](unsigned char c) {
                           return std::isdigit(c) != 0 || std::isupper(c) != 0;
                         });
    if (!is_code) continue;
    sqlstate = code;
    text.erase(0, colon + 10);
    return;
  }
}

int connect_seconds(const Conninfo& conninfo) {
  const std::string text = conninfo.get("connect_timeout");
  const std::string hosts = conninfo.get("host");
  const int count = 1 + static_cast<int>(std::count(hosts.begin(), hosts.end(), ','));
  int seconds = kConnectSeconds;
  if (!text.empty() && text.size() <= 4 && std::all_of(text.begin(), text.end(), ::isdigit)) {
    seconds = std::max(2, std::stoi(text));
  }
  return seconds * count;
}

}  // namespace

void PostgresConnection::Closer::operator()(pg_conn* connection) const { PQfinish(connection); }

PostgresConnection::PostgresConnection(NameLookup::Resolver resolver) : resolver_(std::move(resolver)) {}
PostgresConnection::~PostgresConnection() { close(); }

void PostgresConnection::open(const Conninfo& conninfo, Now now) {
  close();
  conninfo_ = conninfo;
  server_ = conninfo.server();
  if (!conninfo_.credential().is_set()) return look_up(now);
  asking_ = std::make_unique<CredentialLookup>(conninfo_.credential());
  state_ = State::kConnecting;
}

void PostgresConnection::poll_credential(Now now) {
  if (!asking_->is_done()) return;
  const Result<Credential> answer = asking_->answer();
  asking_.reset();
  if (!answer) {
    lose("", answer.error().text);
    failure_->hint = answer.error().hint;
    return;
  }
  conninfo_.set("password", answer->password.reveal());
  look_up(now);
}

void PostgresConnection::look_up(Now now) {
  for (const std::string& name : conninfo_.names()) lookups_.emplace_back(name, resolver_);
  if (lookups_.empty()) return begin(now);
  connect_deadline_ = now.steady + std::chrono::seconds(connect_seconds(conninfo_));
  state_ = State::kConnecting;
}

void PostgresConnection::poll_lookups(Now now) {
  std::map<std::string, std::vector<std::string>> addresses;
  std::string problem;
  for (const NameLookup& lookup : lookups_) {
    if (!lookup.is_done()) {
      if (now.steady < connect_deadline_) return;
      return lose("", "no answer about the name '" + lookup.host() + "' in time");
    }
    if (const auto& found = lookup.addresses()) {
      addresses[lookup.host()] = *found;
    } else {
      addresses[lookup.host()] = {};
      problem = "cannot look up '" + lookup.host() + "': " + found.error().text;
    }
  }
  lookups_.clear();
  if (!conninfo_.set_addresses(addresses)) return lose("", problem);
  begin(now);
}

void PostgresConnection::begin(Now now) {
  connect_deadline_ = now.steady + std::chrono::seconds(connect_seconds(conninfo_));
  for (const char* keyword : {"sslrootcert", "sslcert", "sslkey", "sslcrl"}) {
    const std::string file = conninfo_.get(keyword);
    if (const auto why = why_not_to_open(file)) {
      lose("", std::string(keyword) + " '" + file + "': " + *why);
      failure_->hint = kSpecialFileHint;
      return;
    }
  }
  connection_.reset(PQconnectStart(conninfo_.text().c_str()));
  if (connection_ == nullptr) return lose("", "out of memory");
  PQsetErrorVerbosity(connection_.get(), PQERRORS_VERBOSE);
  if (PQstatus(connection_.get()) == CONNECTION_BAD) return lose_with_last_error();
  PQsetNoticeReceiver(
      connection_.get(),
      [](void* self, const PGresult* notice) {
        static_cast<PostgresConnection*>(self)->hear_notice(notice);
      },
      this);
  state_ = State::kConnecting;
  connect_events_ = POLLOUT;
}

void PostgresConnection::close() {
  asking_.reset();
  wire_.reset();
  lookups_.clear();
  connection_.reset();
  state_ = State::kClosed;
  failure_.reset();
  answer_.reset();
  goodbye_.reset();
  wants_write_ = stream_ended_ = false;
  idle_read_at_ = {};
  answer_bytes_max_ = 0;
}

// libpq hands an error that comes while no command runs to the notice receiver.
void PostgresConnection::hear_notice(const void* result) {
  const char* severity =
      PQresultErrorField(static_cast<const PGresult*>(result), PG_DIAG_SEVERITY_NONLOCALIZED);
  if (severity == nullptr) return;
  const std::string_view text(severity);
  if (text == "FATAL" || text == "PANIC" || text == "ERROR") goodbye_ = failure_of(result);
}

void PostgresConnection::lose(std::string_view sqlstate, std::string_view text) {
  const bool needs_password =
      connection_ != nullptr && PQconnectionNeedsPassword(connection_.get()) != 0;
  PostgresFailure failure{std::string(sqlstate), conninfo_.scrub(text), needs_password};
  close();
  failure_ = std::move(failure);
}

void PostgresConnection::lose_with_last_error() {
  if (goodbye_) return lose(std::string(goodbye_->sqlstate), std::string(goodbye_->text));
  std::string text = PQerrorMessage(connection_.get());
  std::string sqlstate;
  split_connect_error(text, sqlstate);
  if (text.empty()) text = "the server closed the connection";
  lose(sqlstate, text);
}

void PostgresConnection::step(Now now) {
  switch (state_) {
    case State::kClosed:
      return;
    case State::kConnecting:
      if (asking_) return poll_credential(now);
      return lookups_.empty() ? poll_connecting(now) : poll_lookups(now);
    case State::kIdle:
      // The server speaks out of turn only to say goodbye.
      // A loop that turns for other reasons need not pay a system call each time to hear that it
      // did not.
      if (now.steady < idle_read_at_) return;
      idle_read_at_ = now.steady + kIdleReadInterval;
      if (PQconsumeInput(connection_.get()) == 0) {
        lose_with_last_error();
      } else if (PGnotify* notify = PQnotifies(connection_.get())) {
        PQfreemem(notify);
      }
      return;
    case State::kBusy:
      flush();
      if (state_ == State::kBusy) wire_ ? read_stream_answer() : read_answer();
      return;
    case State::kStreaming:
      return flush();
  }
}

void PostgresConnection::poll_connecting(Now now) {
  // PQconnectPoll must only be called when the socket is ready for what it asked for last.
  pollfd descriptor{PQsocket(connection_.get()), connect_events_, 0};
  if (descriptor.fd >= 0 && ::poll(&descriptor, 1, 0) == 0) {
    if (now.steady >= connect_deadline_)
      lose("", "no answer from " + server_ + " in time");
    return;
  }
  switch (PQconnectPoll(connection_.get())) {
    case PGRES_POLLING_READING:
      connect_events_ = POLLIN;
      return;
    case PGRES_POLLING_WRITING:
      connect_events_ = POLLOUT;
      return;
    case PGRES_POLLING_OK:
      PQsetnonblocking(connection_.get(), 1);
      state_ = State::kIdle;
      return;
    default:
      return lose_with_last_error();
  }
}

void PostgresConnection::wait_for(Waiting& waiting, bool want_data) const {
  if (state_ == State::kClosed) return;
  short events = 0;
  if (asking_) return asking_->wait_for(waiting);
  if (!lookups_.empty()) {
    const auto pending = std::find_if(lookups_.begin(), lookups_.end(),
                                      [](const NameLookup& lookup) { return !lookup.is_done(); });
    if (pending == lookups_.end()) return waiting.wake_at(SteadyTime::min());
    pending->wait_for(waiting);
    return waiting.wake_at(connect_deadline_);
  }
  if (state_ == State::kConnecting) {
    events = connect_events_;
    waiting.wake_at(connect_deadline_);
  } else {
    if (want_data || state_ != State::kStreaming) events |= POLLIN;
    if (wants_write_) events |= POLLOUT;
  }
  if (events != 0) waiting.descriptors.push_back(pollfd{PQsocket(connection_.get()), events, 0});
}

void PostgresConnection::send(const std::string& command) {
  EVICTD_CHECK(state_ == State::kIdle);
  if (PQsendQuery(connection_.get(), command.c_str()) == 0) return lose_with_last_error();
  state_ = State::kBusy;
  flush();
}

void PostgresConnection::send(const std::string& command, std::size_t bytes_max) {
  EVICTD_CHECK(state_ == State::kIdle);
  if (PQsendQuery(connection_.get(), command.c_str()) == 0 || PQsetSingleRowMode(connection_.get()) == 0) return lose_with_last_error();
  answer_bytes_ = 0;
  answer_bytes_max_ = bytes_max;
  state_ = State::kBusy;
  flush();
}

void PostgresConnection::send_prepare(const std::string& name, const std::string& statement) {
  EVICTD_CHECK(state_ == State::kIdle);
  if (PQsendPrepare(connection_.get(), name.c_str(), statement.c_str(), 0, nullptr) == 0) return lose_with_last_error();
  state_ = State::kBusy;
  flush();
}

void PostgresConnection::send_prepared(const std::string& name) {
  EVICTD_CHECK(state_ == State::kIdle);
  if (PQsendQueryPrepared(connection_.get(), name.c_str(), 0, nullptr, nullptr, nullptr, 0) == 0) {
    return lose_with_last_error();
  }
  state_ = State::kBusy;
  flush();
}

void PostgresConnection::begin_stream(const std::string& command) {
  EVICTD_CHECK(state_ == State::kIdle);
  PGconn* connection = connection_.get();
  ssl_st* tls = nullptr;
  if (PQsslInUse(connection) != 0) {
    tls = static_cast<ssl_st*>(PQsslStruct(connection, "OpenSSL"));
    if (tls == nullptr) return lose("", "expected a libpq that uses OpenSSL for TLS");
  } else if (PQgssEncInUse(connection) != 0) {
    return lose("", "a replication stream cannot be read under GSSAPI encryption: set gssencmode=disable, and use TLS");
  }
  wire_.emplace(PQsocket(connection), tls);
  wire_->send('Q', std::string_view(command.c_str(), command.size() + 1));
  state_ = State::kBusy;
  flush();
}

void PostgresConnection::send_prepared(const std::string& name, const std::vector<std::string>& parameters,
                                       std::size_t bytes_max) {
  EVICTD_CHECK(state_ == State::kIdle);
  std::vector<const char*> values;
  for (const std::string& parameter : parameters) values.push_back(parameter.c_str());
  if (PQsendQueryPrepared(connection_.get(), name.c_str(), static_cast<int>(values.size()), values.data(), nullptr, nullptr, 0) == 0 ||
      PQsetSingleRowMode(connection_.get()) == 0) {
    return lose_with_last_error();
  }
  answer_bytes_ = 0;
  answer_bytes_max_ = bytes_max;
  state_ = State::kBusy;
  flush();
}

void PostgresConnection::lose_wire() { lose("", std::string(wire_->problem())); }

namespace {

// The fields of an ErrorResponse or a NoticeResponse.
std::map<char, std::string> error_fields(std::string_view body) {
  std::map<char, std::string> fields;
  while (!body.empty() && body.front() != 0) {
    const std::size_t end = body.find('\0', 1);
    if (end == std::string_view::npos) break;
    fields[body.front()] = body.substr(1, end - 1);
    body.remove_prefix(end + 1);
  }
  return fields;
}

PostgresFailure failure_in(std::string_view body, const Conninfo& conninfo) {
  std::map<char, std::string> fields = error_fields(body);
  std::string text = fields['M'];
  if (!fields['D'].empty()) text += " (" + fields['D'] + ")";
  if (text.empty()) text = "an error without a text";
  return PostgresFailure{fields['C'], conninfo.scrub(text), false};
}

}  // namespace

// What the server says to the command that begins the stream.
void PostgresConnection::read_stream_answer() {
  if (!wire_->receive()) return lose_wire();
  while (true) {
    auto frame = wire_->next();
    if (!frame) return lose("08P01", std::string(frame.error().text));
    if (!*frame) return;
    switch ((*frame)->type) {
      case 'W':  // CopyBothResponse
        answer_.emplace();
        state_ = State::kStreaming;
        return;
      case 'E':
        answer_.emplace();
        answer_->failure = failure_in((*frame)->body, conninfo_);
        state_ = State::kIdle;  // for nothing but to be closed
        return;
      case 'N':
      case 'S':
      case 'A':
        break;
      default:
        return lose("08P01", "expected a stream to begin, got a message of another kind");
    }
  }
}

void PostgresConnection::flush() {
  if (wire_) {
    if (!wire_->flush()) return lose_wire();
    wants_write_ = wire_->wants_write();
    return;
  }
  const int left = PQflush(connection_.get());
  if (left < 0) return lose_with_last_error();
  wants_write_ = left > 0;
}

PostgresFailure PostgresConnection::failure_of(const void* result) const {
  const auto* failed = static_cast<const PGresult*>(result);
  const auto field = [&](int code) -> std::string {
    const char* text = PQresultErrorField(failed, code);
    return text == nullptr ? std::string() : text;
  };
  std::string text = field(PG_DIAG_MESSAGE_PRIMARY);
  if (const std::string detail = field(PG_DIAG_MESSAGE_DETAIL); !detail.empty())
    text += " (" + detail + ")";
  if (text.empty()) text = PQresultErrorMessage(failed);
  return PostgresFailure{field(PG_DIAG_SQLSTATE), conninfo_.scrub(text), false};
}

void PostgresConnection::read_answer() {
  if (PQconsumeInput(connection_.get()) == 0) return lose_with_last_error();
  while (PQisBusy(connection_.get()) == 0) {
    const ResultOwner result(PQgetResult(connection_.get()), &PQclear);
    if (result == nullptr) {
      // A lost connection ends a command too.
      if (PQstatus(connection_.get()) == CONNECTION_BAD) {
        if (answer_ && answer_->failure)
          return lose(answer_->failure->sqlstate, answer_->failure->text);
        return lose_with_last_error();
      }
      state_ = State::kIdle;
      answer_bytes_max_ = 0;
      return;
    }
    if (!answer_) answer_.emplace();
    switch (PQresultStatus(result.get())) {
      case PGRES_COPY_BOTH:
        state_ = State::kStreaming;
        return;
      case PGRES_TUPLES_OK:
      case PGRES_SINGLE_TUPLE:
        if (answer_bytes_max_ > 0 && !keep_bounded(result.get())) return;
        if (answer_->columns.empty()) {
          for (int column = 0; column < PQnfields(result.get()); ++column) {
            answer_->columns.emplace_back(PQfname(result.get(), column));
          }
        }
        for (int row = 0; row < PQntuples(result.get()); ++row) {
          auto& values = answer_->rows.emplace_back();
          for (int column = 0; column < PQnfields(result.get()); ++column) {
            if (PQgetisnull(result.get(), row, column) != 0) {
              answer_->nulls.emplace(answer_->rows.size() - 1, static_cast<std::size_t>(column));
            }
            values.emplace_back(PQgetvalue(result.get(), row, column),
                                static_cast<std::size_t>(PQgetlength(result.get(), row, column)));
          }
        }
        break;
      case PGRES_FATAL_ERROR:
        if (!answer_->failure) answer_->failure = failure_of(result.get());
        break;
      default:
        break;
    }
  }
}

// Types and size of the rows that are about to be kept. False: they are too many, and the connection is given up, since what
// the server still sends could be ended in no other way without waiting.
bool PostgresConnection::keep_bounded(const void* received) {
  const auto* result = static_cast<const PGresult*>(received);
  const int columns = PQnfields(result);
  if (answer_->types.empty()) {
    for (int column = 0; column < columns; ++column) answer_->types.push_back(PQftype(result, column));
  }
  for (int row = 0; row < PQntuples(result); ++row) {
    for (int column = 0; column < columns; ++column) {
      answer_bytes_ += sizeof(std::string) + static_cast<std::size_t>(PQgetlength(result, row, column));
    }
  }
  if (answer_bytes_ <= answer_bytes_max_) return true;
  Answer too_much;
  too_much.is_too_much = true;
  close();
  answer_ = std::move(too_much);
  return false;
}

std::optional<PostgresConnection::Answer> PostgresConnection::take_answer() {
  if (!answer_ || state_ == State::kBusy) return std::nullopt;
  std::optional<Answer> answer = std::move(answer_);
  answer_.reset();
  return answer;
}

std::optional<std::string_view> PostgresConnection::read_stream(bool may_receive) {
  EVICTD_CHECK(state_ == State::kStreaming);
  while (true) {
    auto frame = wire_->next();
    if (!frame) {
      lose("08P01", std::string(frame.error().text));
      return std::nullopt;
    }
    if (!*frame) {
      if (!may_receive) return std::nullopt;
      if (!wire_->receive()) {
        lose_wire();
        return std::nullopt;
      }
      wants_write_ = wire_->wants_write();
      // Once, but for what poll() would not tell of.
      may_receive = wire_->has_pending();
      continue;
    }
    switch ((*frame)->type) {
      case 'd':
        if ((*frame)->body.empty()) break;
        return (*frame)->body;
      case 'c':  // CopyDone: ours is answered by more
        if (stream_ended_) break;
        [[fallthrough]];
      case 'C':
      case 'Z':
        lose("", "the server ended the stream");
        return std::nullopt;
      case 'E': {
        const PostgresFailure failure = failure_in((*frame)->body, conninfo_);
        lose(failure.sqlstate, failure.text);
        return std::nullopt;
      }
      case 'N':
      case 'S':
      case 'A':
        break;
      default:
        lose("08P01", "expected messages of a replication stream, got one of another kind");
        return std::nullopt;
    }
  }
}

bool PostgresConnection::write_stream(std::string_view message) {
  EVICTD_CHECK(state_ == State::kStreaming);
  wire_->send('d', message);
  flush();
  return state_ == State::kStreaming;
}

void PostgresConnection::end_stream() {
  EVICTD_CHECK(state_ == State::kStreaming);
  stream_ended_ = true;
  wire_->send('c', {});
  flush();
}

bool PostgresConnection::uses_tls() const {
  return connection_ != nullptr && PQsslInUse(connection_.get()) != 0;
}

int PostgresConnection::server_version() const {
  return connection_ == nullptr ? 0 : PQserverVersion(connection_.get());
}

int PostgresConnection::backend_pid() const {
  return connection_ == nullptr ? 0 : PQbackendPID(connection_.get());
}

void PostgresConnection::pin_server(Conninfo& conninfo) const {
  if (connection_ == nullptr) return;
  const auto pin = [&](const char* keyword, const char* value) {
    if (value != nullptr && *value != '\0') conninfo.set(keyword, value);
  };
  pin("host", PQhost(connection_.get()));
  // A Unix socket has no address.
  const char* host = PQhost(connection_.get());
  if (host != nullptr && *host == '/') {
    conninfo.set("hostaddr", "");
  } else {
    pin("hostaddr", PQhostaddr(connection_.get()));
  }
  pin("port", PQport(connection_.get()));
}

}  // namespace evictd
