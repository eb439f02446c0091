#include "daemon/sinks/redis/topology/sentinel_link.h"

#include <utility>

#include "daemon/sinks/redis/errors.h"

namespace evictd {

SentinelLink::SentinelLink(SentinelOptions options)
    : options_(std::move(options)),
      quest_(options_.master_name, options_.sentinels),
      transport_(address_, options_.tls_files) {
  address_.tls = options_.tls;
}

void SentinelLink::find(SteadyTime now) {
  quest_.begin();
  begin_round(now);
}

void SentinelLink::confirm(SteadyTime now) {
  quest_.begin_confirm();
  begin_round(now);
}

void SentinelLink::begin_round(SteadyTime now) {
  stop();
  is_refused_ = false;
  state_ = State::kAsking;
  ask(now);
}

void SentinelLink::watch(SteadyTime now) {
  stop();
  quest_.begin_watch();
  is_refused_ = false;
  heard_at_ = now;
  state_ = State::kWatching;
  next_ask_ = now + options_.watch_interval;
}

void SentinelLink::stop() {
  hang_up();
  state_ = State::kIdle;
  is_moved_ = false;
}

void SentinelLink::hang_up() {
  transport_.close();
  is_asking_ = false;
}

void SentinelLink::ask(SteadyTime now) {
  hang_up();
  address_.host = quest_.asked().host;
  address_.port = quest_.asked().port;
  is_asking_ = true;
  deadline_ = now + options_.deadline;
  reader_ = ReplyReader();
  replies_.clear();
  output_.clear();
  written_ = 0;
  if (!options_.password.empty()) append_command(output_, {"AUTH", options_.password});
  append_command(output_, {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", options_.master_name});
  append_command(output_, {"SENTINEL", "MASTER", options_.master_name});
  transport_.open();
}

void SentinelLink::step(SteadyTime now) {
  if (state_ == State::kWatching && !is_asking_ && now >= next_ask_) ask(now);
  while (is_asking_) {
    auto done = move();
    if (!done) return ended(nullptr, "cannot be asked: " + done.error().text, now);
    if (!*done) {
      if (now >= deadline_) return ended(nullptr, "did not answer within " + std::to_string(options_.deadline.count()) + "ms", now);
      return;
    }
    const std::size_t first = replies_.size() - 2;
    for (const Reply& reply : replies_) is_refused_ = is_refused_ || (reply.is_error() && classify_redis_error(reply.text).name == kClassAuth);
    if (first == 1 && replies_[0].is_error()) return ended(nullptr, "refused the password: '" + replies_[0].text + "'", now);
    const Reply& address = replies_[first];
    const auto answer = read_sentinel_answer(address, replies_[first + 1]);
    if (!answer) return ended(nullptr, address.is_error() ? "refused: '" + address.text + "'" : "is no Sentinel", now);
    return ended(&*answer, {}, now);
  }
}

Error SentinelLink::error() const { return with_advice(quest_.error()); }

std::optional<Error> SentinelLink::silence(SteadyTime now) const {
  constexpr std::chrono::seconds kSilenceMax{5};
  if (state_ != State::kWatching || now - heard_at_ < kSilenceMax) return std::nullopt;
  auto silence = quest_.silence();
  return silence ? std::optional(with_advice(std::move(*silence))) : std::nullopt;
}

Error SentinelLink::with_advice(Error error) const {
  if (is_refused_) {
    error.hint = "'redis: sentinel_password:' is what 'requirepass' says in the Sentinels' own configuration, not the master's; leave it out where "
                 "they have none";
  }
  return error;
}

// True when everything was answered.
Result<bool> SentinelLink::move() {
  auto state = transport_.advance();
  if (!state) return tl::unexpected(std::move(state.error()));
  if (*state != Transport::State::kOpen) return false;
  if (written_ < output_.size()) {
    auto taken = transport_.write(std::string_view(output_).substr(written_));
    if (!taken) return tl::unexpected(std::move(taken.error()));
    written_ += *taken;
  }
  std::string bytes;
  auto got = transport_.read(bytes, Transport::kReadMax);
  if (!got) return tl::unexpected(std::move(got.error()));
  reader_.feed(bytes);
  const std::size_t wanted = options_.password.empty() ? 2 : 3;
  while (replies_.size() < wanted) {
    auto next = reader_.next();
    if (!next) return tl::unexpected(std::move(next.error()));
    if (!next->has_value()) return false;
    replies_.push_back(std::move(**next));
  }
  return true;
}

void SentinelLink::ended(const SentinelAnswer* answer, std::string why, SteadyTime now) {
  if (state_ == State::kWatching) {
    hang_up();
    next_ask_ = now + options_.watch_interval;
    if (answer == nullptr) {
      quest_.heard_nothing(std::move(why));
    } else {
      is_moved_ = quest_.is_moved_by(*answer) || is_moved_;
      if (answer->master) heard_at_ = now;
      is_refused_ = false;
    }
    quest_.ask_another();
    return;
  }
  hang_up();
  switch (answer != nullptr ? quest_.answered(*answer) : quest_.failed(std::move(why))) {
    case MasterQuest::Next::kFound:
      state_ = State::kFound;
      return;
    case MasterQuest::Next::kNobodyKnows:
      state_ = State::kFailed;
      return;
    case MasterQuest::Next::kAskNext:
      return ask(now);
  }
}

void SentinelLink::wait_for(Waiting& waiting) const {
  if (state_ == State::kWatching && !is_asking_) return waiting.wake_at(next_ask_);
  if (!is_asking_) return;
  waiting.wake_at(deadline_);
  transport_.wait_for(waiting, written_ < output_.size());
}

}  // namespace evictd
