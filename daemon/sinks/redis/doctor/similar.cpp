#include "daemon/sinks/redis/doctor/similar.h"

#include <fmt/format.h>

#include <vector>

#include "daemon/sinks/redis/semantic.h"
#include "mapping/utf8.h"

namespace evictd {
namespace {

constexpr std::size_t kShown = 10;

struct Index {
  std::optional<VectorSet> set;
  std::optional<SearchIndex> search;
  std::uint64_t dimensions = 0;
  std::string problem;  // why it cannot be asked
};

Index look_at(BlockingClient& client, const SemanticInfo& info) {
  Index index;
  const bool is_vset = info.engine == SemanticEngine::kVset;
  const Result<Reply> reply = client.command({is_vset ? "VINFO" : "FT.INFO", info.index});
  if (!reply || reply->is_error()) {
    index.problem = reply ? reply->text : reply.error().text;
  } else if (is_vset) {
    const auto read = read_vector_set(*reply);
    if (read) index.set = read->set;
    if (!index.set) index.problem = "it is not there";
    if (index.set) index.dimensions = index.set->dimensions;
  } else {
    index.search = read_search_index(*reply);
    index.problem = index.search ? search_index_problem(info, *index.search) : "its description cannot be read";
    if (index.problem.empty() && info.is_near()) index.dimensions = index.search->fields.at(vector_field(info, *index.search)).dimensions;
  }
  return index;
}

// A question in the protocol, as blocking clients take it: the pieces of one command.
std::vector<std::string> pieces(std::string_view command) {
  std::vector<std::string> arguments;
  std::size_t at = command.find('\n') + 1;
  while (at < command.size()) {
    const std::size_t end = command.find("\r\n", at);
    const std::size_t length = std::stoul(std::string(command.substr(at + 1, end - at - 1)));
    arguments.emplace_back(command.substr(end + 2, length));
    at = end + 2 + length + 2;
  }
  return arguments;
}

}  // namespace

std::optional<std::uint64_t> index_dimensions(BlockingClient& client, const SemanticInfo& info) {
  const Index index = look_at(client, info);
  return index.problem.empty() && index.dimensions != 0 ? std::optional(index.dimensions) : std::nullopt;
}

std::string nearest_text(BlockingClient& client, const SemanticInfo& info, const SemanticOrder& order) {
  const auto one_line = [&](std::string_view what) { return fmt::format("         index '{}': {}\n", info.index, what); };
  const Index index = look_at(client, info);
  if (!index.problem.empty()) return one_line(index.problem);
  const bool is_near = !order.vector.empty();
  if (is_near && order.vector.size() != index.dimensions * sizeof(float)) {
    return one_line(fmt::format("its vectors have {} dimensions, the row's {}", index.dimensions, order.vector.size() / sizeof(float)));
  }
  std::string command;
  std::optional<FoundElements> found;
  if (index.set) {
    if (is_near && !index.set->margin) return one_line("its scores are no cosines (" + index.set->quantisation + ")");
    const SemanticFilter filter = vector_set_filter(info, order);
    append_similar(command, info, is_near ? order.vector : any_vector(index.dimensions), kShown, filter.text,
                   !is_near || index.set->size <= kExactNearMax, is_near);
    const Result<Reply> reply = client.command(pieces(command));
    if (!reply || reply->is_error()) return one_line(reply ? reply->text : reply.error().text);
    found = read_similar(*reply, is_near);
  } else {
    const SemanticFilter filter = search_filter(info, order, *index.search);
    if (filter.is_impossible) return one_line("no element can have such a value");
    append_search(command, info, *index.search, order.vector, kShown, filter.text);
    const Result<Reply> reply = client.command(pieces(command));
    if (!reply || reply->is_error()) return one_line(reply ? reply->text : reply.error().text);
    found = read_search(*reply, is_near);
  }
  if (!found) return one_line("its answer cannot be read");
  if (found->elements.empty()) return one_line("nothing there passes");
  const double margin = index.set ? index.set->margin.value_or(0) : kSearchMargin;
  std::string text;
  for (const FoundElement& element : found->elements) {
    const bool goes = !is_near || element.similarity >= info.min_similarity - margin;
    text += fmt::format("         {}  {:<5}  {}\n", is_near ? fmt::format("{:6.3f}", element.similarity) : "     -", goes ? "goes" : "stays", printable(element.name));
  }
  if (found->size() == kShown) text += fmt::format("         the nearest {}\n", kShown);
  return text;
}

}  // namespace evictd
