// Records whose schema is not known yet wait for the registry. Nothing is skipped, and nothing behind them acknowledged.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/sources/kafka/consumer_state.h"

namespace evictd {
namespace {

using namespace std::chrono_literals;

constexpr auto kAskAgainFirst = 500ms;
constexpr auto kAskAgainMax = 3'000ms;

std::string hint_of_width(const EnvelopeDecoder::NeededSchema& needed) {
  if (needed.id_bytes == 0) return {};
  std::string hint = fmt::format("; the id was read from {} bytes", needed.id_bytes);
  if (needed.other_id != 0) {
    const int other = needed.id_bytes == 4 ? 8 : 4;
    hint += fmt::format(", and is {} where the converter writes {}: kafka.registry.id says which", needed.other_id, other);
  }
  return hint;
}

}  // namespace

// True: the record stays the first.
bool KafkaSource::must_wait_for_schemas(const std::vector<EnvelopeDecoder::NeededSchema>& missing, const KafkaRecord& record,
                                        const TopicPartition& at) {
  if (missing.empty()) {
    if (!registry_problem_.empty()) forget_registry_problem();
    return false;
  }
  if (asking_registry_ || ask_registry_at_ != SteadyTime::max()) return true;
  asking_registry_ = true;
  // Both of key and value at once.
  std::string ids;
  for (const auto& needed : missing) ids += fmt::format("{}{}", ids.empty() ? "" : ", ", needed.id);
  const std::string place = fmt::format("{} offset {}", at.to_string(), record.offset);
  registry_helper_.run(
      fmt::format("the schema registry at '{}' for schema {}", options_.registry.url, ids),
      [this, missing, place, client = RegistryClient(options_.registry, registry_is_cancelled_)]() -> HelperThread::Completion {
        std::vector<std::pair<std::uint64_t, RegisteredSchema>> found;
        std::string problem;
        for (const auto& needed : missing) {
          auto schema = client.schema(needed.id);
          if (schema) {
            found.emplace_back(needed.id, std::move(*schema));
            continue;
          }
          const Error& error = schema.error();
          const bool is_absent = error.kind == ErrorKind::kUsage;
          problem = fmt::format("{}: {}{}{}{}", place, error.text, is_absent ? hint_of_width(needed) : "", error.hint.empty() ? "" : "; ",
                                error.hint);
          break;
        }
        return [this, found = std::move(found), problem = std::move(problem)]() mutable {
          asking_registry_ = false;
          for (auto& [id, schema] : found) schemas_.keep(id, std::move(schema));
          if (problem.empty()) return forget_registry_problem();
          registry_problem_ = std::move(problem);
          registry_backoff_ = registry_backoff_ == 0ms ? std::chrono::milliseconds(kAskAgainFirst)
                                                       : std::min<std::chrono::milliseconds>(registry_backoff_ * 2, kAskAgainMax);
          ask_registry_at_ = now_.steady + registry_backoff_;
        };
      });
  return true;
}

void KafkaSource::forget_registry_problem() {
  registry_problem_.clear();
  registry_backoff_ = 0ms;
  ask_registry_at_ = SteadyTime::max();
}

}  // namespace evictd
