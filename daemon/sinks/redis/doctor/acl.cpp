#include "daemon/sinks/redis/doctor/acl.h"

#include <algorithm>
#include <set>

#include "daemon/interface/sink.h"

namespace evictd {
namespace {

// A glob as ACL SETUSER takes it: blanks are refused there, and '?' stands for them too.
std::string acl_glob(std::string glob) {
  std::replace_if(glob.begin(), glob.end(), [](unsigned char c) { return c <= ' '; }, '?');
  return glob;
}

// Of a name that is no glob.
std::string glob_of(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (std::string_view("*?[]\\^").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

template <typename Condition>
bool any(const std::vector<const RuleInfo*>& rules, Condition condition) {
  return std::any_of(rules.begin(), rules.end(), [&](const RuleInfo* rule) { return condition(*rule); });
}

}  // namespace

std::string redis_word(const std::string& word) {
  if (word.find_first_of(" \"'\\\t") == std::string::npos) return word;
  std::string out = "\"";
  for (const char c : word) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

RedisAcl redis_acl(const std::string& user, const std::vector<const RuleInfo*>& rules, const RedisAclNeeds& needs) {
  // evictd's own keys first: markers, the record, its probe.
  std::set<std::string> keys;
  std::set<std::string> channels;
  for (const RuleInfo* rule : rules) {
    for (const Pattern& pattern : rule->patterns) {
      // A lazy tag has no set: what its pattern matches are markers, which are evictd's own.
      if (!pattern.is_lazy && !pattern.is_semantic) keys.insert(acl_glob(pattern.glob));
    }
    for (const SemanticInfo& entry : rule->semantic) {
      if (entry.engine == SemanticEngine::kVset) keys.insert(acl_glob(glob_of(entry.index)));
      for (std::size_t key = 0; key < entry.keys.size(); ++key) {
        std::string glob;
        for (const std::string& piece : entry.keys[key]) glob += (&piece == &entry.keys[key][0] ? "" : "*") + glob_of(piece);
        keys.insert(acl_glob(glob));
      }
    }
    if (!rule->refresh.stream.empty()) keys.insert(acl_glob(glob_of(rule->refresh.stream)));
    if (!rule->announce.empty()) channels.insert(acl_glob(glob_of(rule->announce)));
  }
  const bool has_tag_sets =
      any(rules, [](const RuleInfo& rule) { return !rule.tag_templates.empty() && rule.tags_mode == TagsMode::kMembers; });
  const bool has_plain_tag_sets =
      any(rules, [](const RuleInfo& rule) { return !rule.tag_templates.empty() && asks_for_deletes_only(rule); });
  const bool has_counters = any(rules, [](const RuleInfo& rule) { return !rule.bump_templates.empty(); });

  RedisAcl acl;
  acl.daemon = "ACL SETUSER " + redis_word(user) + " reset on >PASSWORD ~evictd:*";
  for (const std::string& key : keys) acl.daemon += " " + redis_word("~" + key);
  for (const std::string& channel : channels) acl.daemon += " " + redis_word("&" + channel);
  acl.daemon +=
      " -@all +info +time +select +client|setname +get +mget +getrange +exists +set +pttl +pexpire +persist +unlink +evalsha +script|load"
      " +fcall +function|load +scan";
  if (has_tag_sets) acl.daemon += " +sscan +zscan +srem";
  if (has_plain_tag_sets) acl.daemon += " +multi +exec";
  if (has_counters) acl.daemon += " +zadd +zremrangebyscore +zremrangebyrank +incrby";
  if (any(rules, [](const RuleInfo& rule) { return !rule.refresh.stream.empty(); })) acl.daemon += " +xadd";
  // Fills by the refresh list values under tags, in sets or with an end.
  if (any(rules, [](const RuleInfo& rule) { return !rule.refresh.query.empty(); })) acl.daemon += " +sadd +zadd +zrange +zrangebyscore +zrem +pexpireat";
  const auto has_engine = [&](SemanticEngine engine) {
    return any(rules, [&](const RuleInfo& rule) {
      return std::any_of(rule.semantic.begin(), rule.semantic.end(), [&](const SemanticInfo& entry) { return entry.engine == engine; });
    });
  };
  if (has_engine(SemanticEngine::kVset)) acl.daemon += " +vinfo +vsim +vrem +vrandmember +renamenx";
  if (has_engine(SemanticEngine::kSearch)) acl.daemon += " +ft.info +ft.search";
  // A full Redis takes the record by a script alone, which is not loaded where no rule needs any.
  const bool has_plain_rules_alone = !any(rules, [](const RuleInfo& rule) { return !asks_for_deletes_only(rule); });
  if (has_plain_rules_alone || !channels.empty()) acl.daemon += " +eval";
  if (!channels.empty()) acl.daemon += " +incr +publish";
  if (needs.has_replicas_ack) acl.daemon += " +wait";
  if (needs.is_cluster) acl.daemon += " +cluster|info +cluster|slots +cluster|nodes +asking";
  acl.check = "ACL SETUSER " + redis_word(user) +
              " +acl|whoami +acl|dryrun +command|info +config|get +eval +ping +randomkey +scard +type";
  return acl;
}

}  // namespace evictd
