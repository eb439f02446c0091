#include "daemon/sources/postgres/catalogue_session.h"

#include <fmt/format.h>

#include <exception>
#include <pqxx/pqxx>
#include <string_view>

namespace evictd {
namespace {

// "ERROR:  text\nLINE 1: ..." -> "text".
std::string first_line(std::string_view text) {
  text = text.substr(0, text.find('\n'));
  if (const auto colon = text.find(":  "); colon != std::string_view::npos && colon < 12)
    text.remove_prefix(colon + 3);
  return std::string(text);
}

}  // namespace

struct CatalogueSession::Handle {
  explicit Handle(const std::string& conninfo) : connection(conninfo) {}
  pqxx::connection connection;
};

CatalogueSession::CatalogueSession(const Conninfo& conninfo)
    : handle_(std::make_unique<Handle>(conninfo.text())) {
  version_ = std::stoi(query("select current_setting('server_version_num')").at(0).at(0));
}

CatalogueSession::~CatalogueSession() = default;

std::string CatalogueSession::quote(const std::string& text) const {
  return handle_->connection.quote(text);
}

std::string CatalogueSession::quote_name(const std::string& name) const {
  return handle_->connection.quote_name(name);
}

TextRows CatalogueSession::query(const std::string& statement) {
  pqxx::nontransaction work(handle_->connection);
  const pqxx::result result = work.exec(statement);
  TextRows rows;
  for (const auto& row : result) {
    auto& values = rows.emplace_back();
    for (const auto& field : row) values.emplace_back(field.is_null() ? "" : field.c_str());
  }
  return rows;
}

void CatalogueSession::transaction(const std::vector<std::string>& statements) {
  pqxx::work work(handle_->connection);
  for (const std::string& statement : statements) work.exec(statement);
  work.commit();
}

std::optional<Error> CatalogueSession::caught(const std::function<void()>& work,
                                              const Conninfo& conninfo) {
  try {
    work();
    return std::nullopt;
  } catch (const pqxx::broken_connection& e) {
    return Error{ErrorKind::kConnection, conninfo.scrub(first_line(e.what())), {}};
  } catch (const pqxx::sql_error& e) {
    const std::string& state = e.sqlstate();
    // 57P0x: the server is going away. 42xxx, rights and names: it will never agree. libpqxx 6
    // tells these by the type of the exception only. Others may pass: locks, resources.
    const bool is_usage = state.starts_with("42") ||
                          dynamic_cast<const pqxx::insufficient_privilege*>(&e) != nullptr ||
                          dynamic_cast<const pqxx::syntax_error*>(&e) != nullptr;
    const ErrorKind kind = state.starts_with("57P") ? ErrorKind::kConnection
                           : is_usage               ? ErrorKind::kUsage
                                                    : ErrorKind::kTransient;
    return Error{kind, conninfo.scrub(first_line(e.what())), {}};
  } catch (const std::exception& e) {
    return Error{ErrorKind::kConnection, conninfo.scrub(first_line(e.what())), {}};
  }
}

}  // namespace evictd
