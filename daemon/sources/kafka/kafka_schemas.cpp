// Records whose schema is not known yet wait for the registry. Nothing is skipped, and nothing behind them acknowledged.
#include <fmt/format.h>

#include "daemon/sources/kafka/consumer_state.h"

namespace evictd {
namespace {

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
    if (!schema_wait_.problem().empty()) schema_wait_.forget();
    return false;
  }
  if (!schema_wait_.asks()) return true;
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
          for (auto& [id, schema] : found) schemas_.keep(id, std::move(schema));
          if (problem.empty()) return schema_wait_.found();
          schema_wait_.failed(std::move(problem), now_.steady);
        };
      });
  return true;
}

}  // namespace evictd
