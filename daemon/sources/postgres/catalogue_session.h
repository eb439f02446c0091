// One libpqxx connection of the catalogue. Inside the postgres room only; its .cpp is the one that
// includes libpqxx. Methods throw libpqxx's exceptions; guard() turns them into errors.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/sources/postgres/catalogue.h"

namespace evictd {

using TextRows = std::vector<std::vector<std::string>>;

class CatalogueSession {
 public:
  explicit CatalogueSession(const Conninfo& conninfo);
  ~CatalogueSession();
  CatalogueSession(const CatalogueSession&) = delete;
  CatalogueSession& operator=(const CatalogueSession&) = delete;

  int version() const { return version_; }
  std::string quote(const std::string& text) const;
  std::string quote_name(const std::string& name) const;

  // One statement outside a transaction. NULL is an empty text.
  TextRows query(const std::string& statement);
  // All or nothing.
  void transaction(const std::vector<std::string>& statements);

  // Runs `work`; kConnection when the session is gone, kUsage when the server will never agree
  // (rights, names), kTransient otherwise.
  template <typename T, typename Work>
  static Result<T> guard(Work work, const Conninfo& conninfo) {
    std::optional<T> result;
    if (auto error = caught([&] { result.emplace(work()); }, conninfo))
      return tl::unexpected<Error>(std::move(*error));
    return std::move(*result);
  }

 private:
  static std::optional<Error> caught(const std::function<void()>& work, const Conninfo& conninfo);

  struct Handle;
  std::unique_ptr<Handle> handle_;
  int version_ = 0;
};

// The tables of `subject` that exist, with what is below them (catalogue_tables.cpp).
std::map<std::string, TableFacts> read_tables(CatalogueSession& session, const Subject& subject);

}  // namespace evictd
