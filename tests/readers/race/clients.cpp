#include "tests/readers/race/clients.h"

#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

namespace evictd::race {

std::int64_t now_us() {
  using namespace std::chrono;
  return duration_cast<microseconds>(system_clock::now().time_since_epoch()).count();
}

std::int64_t ticking_us() {
  using namespace std::chrono;
  return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
}

void fail(std::string_view what) {
  std::fprintf(stderr, "reader_race: %.*s\n", static_cast<int>(what.size()), what.data());
  // Other threads are at work: no destructors.
  std::fflush(nullptr);
  _exit(1);
}

Redis::Redis(int port) : context_(redisConnect("127.0.0.1", port)) {
  if (context_ == nullptr || context_->err != 0) fail("no connection to Redis");
}

Redis::~Redis() { redisFree(context_); }

void Redis::send(const std::vector<std::string>& words) {
  std::vector<const char*> texts;
  std::vector<std::size_t> sizes;
  for (const std::string& word : words) {
    texts.push_back(word.data());
    sizes.push_back(word.size());
  }
  redisAppendCommandArgv(context_, static_cast<int>(words.size()), texts.data(), sizes.data());
}

namespace {

Reply taken(const redisReply& from) {
  Reply reply;
  reply.is_nil = from.type == REDIS_REPLY_NIL;
  reply.integer = from.integer;
  if (from.str != nullptr) reply.text.assign(from.str, static_cast<std::size_t>(from.len));
  if (from.type == REDIS_REPLY_ERROR) fail("Redis says: " + reply.text);
  for (std::size_t i = 0; i < from.elements; ++i) reply.elements.push_back(taken(*from.element[i]));
  return reply;
}

}  // namespace

Reply Redis::next() {
  void* raw = nullptr;
  if (redisGetReply(context_, &raw) != REDIS_OK) fail(std::string("Redis: ") + context_->errstr);
  Reply reply = taken(*static_cast<redisReply*>(raw));
  freeReplyObject(raw);
  return reply;
}

Postgres::Postgres(const std::string& url) : connection_(PQconnectdb(url.c_str())) {
  if (PQstatus(connection_) != CONNECTION_OK) fail(PQerrorMessage(connection_));
}

Postgres::~Postgres() { PQfinish(connection_); }

void Postgres::prepare(const char* name, const char* statement) {
  PGresult* result = PQprepare(connection_, name, statement, 0, nullptr);
  if (PQresultStatus(result) != PGRES_COMMAND_OK) fail(PQerrorMessage(connection_));
  PQclear(result);
}

std::vector<std::vector<std::string>> Postgres::run(const char* name,
                                                    const std::vector<std::string>& parameters) {
  std::vector<const char*> texts;
  for (const std::string& parameter : parameters) texts.push_back(parameter.c_str());
  PGresult* result = PQexecPrepared(connection_, name, static_cast<int>(texts.size()), texts.data(),
                                    nullptr, nullptr, 0);
  if (PQresultStatus(result) != PGRES_TUPLES_OK) fail(PQerrorMessage(connection_));
  std::vector<std::vector<std::string>> rows(static_cast<std::size_t>(PQntuples(result)));
  for (int row = 0; row < PQntuples(result); ++row) {
    for (int column = 0; column < PQnfields(result); ++column) {
      rows[static_cast<std::size_t>(row)].emplace_back(PQgetvalue(result, row, column));
    }
  }
  PQclear(result);
  return rows;
}

}  // namespace evictd::race
