// Lookups: a plain connection that finds rows of joined tables. One question at a time, each a prepared statement with its
// values as arrays. Opened when there is something to ask, and left when it is not used for a while, so that a server which
// shuts down smartly need not wait for it (G7).
//
// Bounds: the server gives a statement up after kStatementMax; an answer that is not there after kAnswerMax, connecting
// included, is a failure; and so is one of more than kAnswerBytesMax, which is asked for in smaller parts.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "daemon/interface/lookup.h"
#include "daemon/sources/postgres/connection.h"
#include "mapping/lookup_sql.h"

namespace evictd {

class Lookups {
 public:
  // `conninfo`: of the server that streams.
  void start(const Conninfo& conninfo);
  void stop();

  // REQUIRES: started, and nothing asked that is not answered. `parameters`: the columns that the values are of; none: the
  // catalogue is asked first, once for each table and connection.
  void ask(LookupRequest request, std::optional<std::vector<LookupParameter>> parameters, Now now);
  // What was asked has no answer any more.
  void forget();
  // `is_leaving`: the server wants sessions to end.
  void step(Now now, bool is_leaving);
  void wait_for(Waiting& waiting) const;
  // The answer, once.
  std::optional<LookupAnswer> take();

 private:
  void send(Now now);
  void prepare_statement(const std::vector<LookupParameter>& parameters);
  void read_types(const PostgresConnection::Answer& answer);
  void read_bases(const PostgresConnection::Answer& answer);
  void read_answer(PostgresConnection::Answer answer);
  void forget_bases();
  void fail(std::string problem);

  PostgresConnection connection_;
  Conninfo conninfo_;
  bool started_ = false;
  struct Asked {
    LookupRequest request;
    std::string sql;  // empty: the types are not known yet
    SteadyTime at;
    bool is_sent = false;  // the statement itself, not its preparation
    bool is_prepared_again = false;
  };
  std::optional<Asked> asked_;
  std::optional<LookupAnswer> answer_;
  std::map<std::string, std::string> prepared_;  // SQL -> name, on this connection
  std::uint64_t last_name_ = 0;
  std::string preparing_;                        // the SQL whose preparation is under way
  std::string asking_types_of_;                  // the table whose columns are asked for
  struct ColumnType {
    LookupParameter as_parameter;
    bool is_array = false;
  };
  std::map<std::string, std::map<std::string, ColumnType>> types_;  // by table and column, of this connection
  // What the server has arrays of domains of, by their type: what a domain is made from tells how an element is read. The
  // server itself says it of a domain, not of an array.
  std::map<std::uint32_t, std::uint32_t> bases_;  // of this connection; a type that is no such array: itself
  std::vector<std::uint32_t> unknown_types_;      // of the last answer: asked for before it is asked once more
  bool is_asking_bases_ = false;
  std::string problem_;                          // of the connection
  SteadyTime used_at_{};
  SteadyTime retry_at_{};
  std::chrono::milliseconds backoff_{0};
};

}  // namespace evictd
