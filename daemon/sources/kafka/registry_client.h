// The schema registry, as far as evictd asks it: GET /schemas/ids/{id} of the Confluent-compatible interface, which Confluent's
// registry, Apicurio ('/apis/ccompat/v7'), Karapace and Redpanda serve.
//
// Blocks, for kAnswerMax and a moment at most; called by a helper thread, and by `check`. Answers are bounded before they are
// gathered; TLS is verified; redirects are not followed, for they would take the password along. Nothing that it says names a
// user or a password.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "daemon/base/secret.h"
#include "daemon/net/credential.h"
#include "daemon/sources/kafka/schema_store.h"
#include "daemon/sources/kafka/wire_format.h"

namespace evictd {

struct RegistryOptions {
  std::string url;  // without user and password; empty: there is none
  std::string user;
  Secret password;
  CredentialSource credential;  // instead of `password`, asked each time
  std::string ca;               // file; empty: the system's authorities
  IdWidth id = IdWidth::kAuto;

  bool is_set() const { return !url.empty(); }
};

class RegistryClient {
 public:
  static constexpr std::chrono::seconds kConnectMax{3};
  static constexpr std::chrono::seconds kAnswerMax{10};
  // Twice a schema's text, for the answer has it escaped.
  static constexpr std::size_t kAnswerBytesMax = 2 * AvroSchema::kTextBytesMax;

  // Once `*is_cancelled` is true, a question ends within a second.
  explicit RegistryClient(RegistryOptions options, std::shared_ptr<const std::atomic<bool>> is_cancelled = nullptr)
      : options_(std::move(options)), is_cancelled_(std::move(is_cancelled)) {}

  // kTransient: there is no answer, or not a schema; kUsage: nobody but a person can mend it, and it may be tried again all the
  // same (a credential that is refused, a schema that is not there).
  Result<RegisteredSchema> schema(std::uint64_t id) const;
  // Whether there is a registry, and it takes the credential.
  Result<void> ping() const;

 private:
  Result<std::string> get(const std::string& path, long& status) const;

  RegistryOptions options_;
  std::shared_ptr<const std::atomic<bool>> is_cancelled_;
};

}  // namespace evictd
