#include "daemon/sources/postgres/replication.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "daemon/sources/postgres/sql_text.h"
#include "mapping/check.h"

namespace evictd {
namespace {

// Acknowledgements are told at most this often: each costs the server a wake-up.
constexpr std::chrono::milliseconds kAcknowledgeInterval{100};
// Silence after which the server is asked for a sign of life. Its answer is also what an idle stream is
// known to be current by (FlowOptions::current_for), so it is asked well before that ends.
constexpr std::chrono::seconds kAskAfter{3};
constexpr std::chrono::seconds kSilenceLeast{20};
// What a busy server may take on top.
constexpr std::chrono::seconds kSilenceMargin{10};
constexpr std::chrono::milliseconds kEndPatience{2'000};
// For IDENTIFY_SYSTEM and START_REPLICATION; the creation of a slot takes as long as it takes.
constexpr std::chrono::seconds kAnswerMax{20};

// Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
constexpr std::int64_t kPostgresEpoch = 946'684'800'000'000;

std::uint64_t read_u64(std::string_view bytes, std::size_t offset) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return __builtin_bswap64(value);
}

// A date of the protocol: microseconds since 2000.
SystemTime time_of(std::uint64_t date) {
  return SystemTime(std::chrono::microseconds(static_cast<std::int64_t>(date + static_cast<std::uint64_t>(kPostgresEpoch))));
}

void append_u64(std::string& bytes, std::uint64_t value) {
  value = __builtin_bswap64(value);
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

void ReplicationStream::open(const Conninfo& conninfo, Now now) {
  close();
  Conninfo replication = conninfo;
  replication.set("replication", "database");
  replication.set_default("gssencmode", "disable");  // see PostgresConnection::begin_stream
  connection_.open(replication, now);
  state_ = State::kConnecting;
  if (connection_.state() == PostgresConnection::State::kClosed) fail_with(*connection_.failure());
}

void ReplicationStream::close() {
  connection_.close();
  state_ = State::kClosed;
  failure_.reset();
  identity_ = {};
  received_ = acknowledged_ = sent_ = proven_ = Lsn{};
  wants_keepalive_ = reply_wanted_ = asked_for_reply_ = false;
}

std::optional<PostgresFailure> ReplicationStream::take_failure() {
  return std::exchange(failure_, std::nullopt);
}

void ReplicationStream::fail_with(PostgresFailure failure) {
  connection_.close();
  state_ = State::kClosed;
  failure_ = std::move(failure);
}

void ReplicationStream::step(Now now) {
  if (state_ == State::kClosed || state_ == State::kReady) {
    if (state_ == State::kReady) connection_.step(now);
  } else {
    connection_.step(now);
  }
  if (state_ != State::kClosed && connection_.state() == PostgresConnection::State::kClosed) {
    return fail_with(
        connection_.failure().value_or(PostgresFailure{"", "the connection was closed", false}));
  }
  if (state_ == State::kConnecting && connection_.state() == PostgresConnection::State::kIdle) {
    connection_.send("IDENTIFY_SYSTEM");
    answer_deadline_ = now.steady + kAnswerMax;
    state_ = State::kIdentifying;
    return;
  }
  if (state_ == State::kStarting && connection_.state() == PostgresConnection::State::kStreaming) {
    static_cast<void>(connection_.take_answer());
    state_ = State::kStreaming;
    last_heard_ = now.steady;
    send_status(now, false);
    return;
  }
  if (state_ == State::kEnding) {
    // What the server still sends is of no interest; it ends with our connection.
    while (connection_.state() == PostgresConnection::State::kStreaming &&
           connection_.read_stream(true)) {
    }
    if (connection_.state() == PostgresConnection::State::kClosed || now.steady >= end_deadline_) {
      connection_.close();
      state_ = State::kClosed;
    }
    return;
  }
  if (state_ != State::kIdentifying && state_ != State::kCreatingSlot && state_ != State::kStarting)
    return;
  const auto answer = connection_.take_answer();
  if (!answer) {
    if (state_ == State::kCreatingSlot || now.steady < answer_deadline_) return;
    return fail_with(PostgresFailure{"", "the server does not answer the replication connection", false});
  }
  if (answer->failure) {
    // The connection lives on, but only a new one is sure to be in a known state.
    return fail_with(*answer->failure);
  }
  if (state_ == State::kIdentifying) {
    finish_identify(*answer);
  } else if (state_ == State::kCreatingSlot &&
             (answer->rows.size() != 1 || answer->rows[0].size() < 2)) {
    fail_with(PostgresFailure{"08P01", "expected one row from CREATE_REPLICATION_SLOT", false});
  } else {
    if (state_ == State::kCreatingSlot)
      created_at_ = Lsn::parse(answer->rows[0][1]).value_or(Lsn{});
    state_ = State::kReady;
  }
}

void ReplicationStream::finish_identify(const PostgresConnection::Answer& answer) {
  if (answer.rows.size() != 1 || answer.rows[0].size() < 3) {
    return fail_with(PostgresFailure{"08P01", "expected one row from IDENTIFY_SYSTEM", false});
  }
  const auto& row = answer.rows[0];
  identity_ = SystemIdentity{row[0], row[1], Lsn::parse(row[2]).value_or(Lsn{})};
  state_ = State::kReady;
}

void ReplicationStream::wait_for(Waiting& waiting, bool want_data) const {
  if (state_ == State::kClosed) return;
  // Lost between two steps: the next one says so.
  if (connection_.state() == PostgresConnection::State::kClosed) waiting.wake_at(SteadyTime::min());
  connection_.wait_for(waiting, want_data || state_ != State::kStreaming);
  if (state_ == State::kEnding) waiting.wake_at(end_deadline_);
  if (state_ == State::kIdentifying || state_ == State::kStarting) waiting.wake_at(answer_deadline_);
  if (state_ == State::kStreaming) {
    waiting.wake_at(last_status_ + status_interval_);
    if (wants_keepalive_) waiting.wake_at(SteadyTime::min());
    if (sent_ < may_acknowledge())
      waiting.wake_at(last_status_ + kAcknowledgeInterval);
    if (want_data) waiting.wake_at(last_heard_ + (asked_for_reply_ ? silence_max_ : kAskAfter));
  }
}

void ReplicationStream::create_slot(const std::string& slot, bool is_temporary) {
  EVICTD_CHECK(state_ == State::kReady);
  connection_.send(fmt::format("CREATE_REPLICATION_SLOT {}{} LOGICAL pgoutput NOEXPORT_SNAPSHOT",
                               quoted_name(slot), is_temporary ? " TEMPORARY" : ""));
  state_ = State::kCreatingSlot;
}

// While the server works off a large transaction of which it sends nothing (a bulk load of tables that are not published), it
// looks at its connection, and so at what we ask, only when half of wal_sender_timeout has passed since it last did
// (PostgreSQL's walsender.c, WalSndUpdateProgress). Given up before that, it would begin with that transaction again each time, for ever.
std::chrono::milliseconds ReplicationStream::silence_max_of(std::chrono::milliseconds wal_sender_timeout) {
  return std::max<std::chrono::milliseconds>(kSilenceLeast, wal_sender_timeout / 2 + kSilenceMargin);
}

void ReplicationStream::start_streaming(const StartOptions& options, Now now) {
  EVICTD_CHECK(state_ == State::kReady);
  // From 0/0: the slot knows where to go on, whatever we might believe.
  connection_.begin_stream(fmt::format(
      "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {}{})",
      quoted_name(options.slot), quoted_option(quoted_name(options.publication)),
      options.with_messages ? ", messages 'true'" : ""));
  status_interval_ = options.status_interval;
  silence_max_ = options.silence_max;
  received_ = acknowledged_ = sent_ = options.confirmed;
  last_heard_ = now.steady;
  asked_for_reply_ = false;
  answer_deadline_ = now.steady + kAnswerMax;
  state_ = State::kStarting;
}

std::optional<StreamMessage> ReplicationStream::read(bool may_receive) {
  EVICTD_CHECK(state_ == State::kStreaming);
  const auto bytes = connection_.read_stream(may_receive);
  heard_ = connection_.take_heard() || heard_;  // a large row may be under way for long
  if (!bytes) {
    if (connection_.state() == PostgresConnection::State::kClosed)
      fail_with(*connection_.failure());
    return std::nullopt;
  }
  // 'w' start end time payload; 'k' end time reply-requested.
  StreamMessage message;
  if (bytes->front() == 'w' && bytes->size() >= 25) [[likely]] {
    message.start = Lsn{read_u64(*bytes, 1)};
    message.sent = time_of(read_u64(*bytes, 17));
    message.payload = bytes->substr(25);
    return message;
  }
  if (bytes->front() == 'k' && bytes->size() == 18) {
    message.is_keepalive = true;
    message.server_end = Lsn{read_u64(*bytes, 1)};
    message.sent = time_of(read_u64(*bytes, 9));
    reply_wanted_ = reply_wanted_ || (*bytes)[17] != 0;
    return message;
  }
  fail_with(PostgresFailure{
      "08P01",
      fmt::format(
          "expected a message 'w' or 'k' in the replication stream, got {:#04x} of {} bytes",
          static_cast<unsigned char>(bytes->front()), bytes->size()),
      false});
  return std::nullopt;
}

void ReplicationStream::advance_received(Lsn end) { received_ = std::max(received_, end); }

void ReplicationStream::prove(Lsn end) { proven_ = std::max(proven_, end); }

void ReplicationStream::acknowledge(Lsn position) {
  acknowledged_ = std::max(acknowledged_, position);
}

void ReplicationStream::keep_alive(Now now, bool is_reading) {
  if (state_ != State::kStreaming) return;
  // While nothing is read, hearing nothing means nothing: the clock of silence starts with the
  // reading.
  if (heard_ || !is_reading || !was_reading_) {
    last_heard_ = now.steady;
    asked_for_reply_ = false;
  }
  heard_ = false;
  was_reading_ = is_reading;
  const auto silence = now.steady - last_heard_;
  if (silence >= silence_max_ && asked_for_reply_) {
    return fail_with(PostgresFailure{
        "",
        fmt::format("the server has been silent for {} s",
                    std::chrono::duration_cast<std::chrono::seconds>(silence).count()),
        false});
  }
  if (silence >= kAskAfter && !asked_for_reply_) {
    asked_for_reply_ = true;
    return send_status(now, true);
  }
  const auto since = now.steady - last_status_;
  if (std::exchange(wants_keepalive_, false)) return send_status(now, true);
  const bool has_news = sent_ < may_acknowledge();
  if (reply_wanted_ || since >= status_interval_ || (has_news && since >= kAcknowledgeInterval)) {
    send_status(now, false);
  }
}

void ReplicationStream::send_status(Now now, bool request_reply) {
  // A position from beyond this connection would be believed: a server that was set back in time
  // would skip everything up to it.
  const Lsn finished = std::max(sent_, may_acknowledge());
  std::string status;
  status.reserve(34);
  status += 'r';
  append_u64(status, received_.value);
  append_u64(status, finished.value);
  append_u64(status, finished.value);
  append_u64(status,
             static_cast<std::uint64_t>(now.system.time_since_epoch().count() - kPostgresEpoch));
  status += request_reply ? '\1' : '\0';
  last_status_ = now.steady;
  reply_wanted_ = false;
  sent_ = finished;
  if (!connection_.write_stream(status)) fail_with(*connection_.failure());
}

void ReplicationStream::end(Now now) {
  if (state_ == State::kEnding || state_ == State::kClosed) return;
  if (state_ != State::kStreaming) return close();
  send_status(now, false);
  if (state_ != State::kStreaming) return;
  connection_.end_stream();
  state_ = State::kEnding;
  end_deadline_ = now.steady + kEndPatience;
}

}  // namespace evictd
