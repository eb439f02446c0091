#include "daemon/sinks/redis/doctor/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <iterator>
#include <map>
#include <optional>
#include <set>

#include "daemon/sinks/redis/blocking_client.h"
#include "daemon/sinks/redis/doctor/acl.h"
#include "daemon/sinks/redis/errors.h"
#include "daemon/sinks/redis/eviction.h"
#include "daemon/sinks/redis/glob.h"
#include "daemon/sinks/redis/record_text.h"
#include "daemon/sinks/redis/scripts.h"
#include "daemon/sinks/redis/semantic.h"
#include "daemon/sinks/redis/session.h"
#include "daemon/sinks/redis/topology/record_copies.h"
#include "daemon/sinks/redis/url.h"
#include "mapping/yaml.h"

namespace evictd {
namespace {

constexpr int kScanCallsMax = 200;  // of 1000 keys: a sample, not a census
constexpr std::size_t kDraws = 64;    // of a key at random
constexpr std::uint32_t kDatabasesMax = 64;  // looked at, by number; 16 unless a server was told otherwise
constexpr long long kLargeTag = 1'000'000;
constexpr std::uint64_t kLargeScan = 200'000;  // elements of a vector set that a search by attribute reads

std::string marker_name(std::string_view key) {
  std::string name;
  append_marker_name(name, key);
  return name;
}

class RedisCheck {
 public:
  RedisCheck(const RedisOptions& options, const RuleSet& rules)
      : options_(options), rules_(rules) {}

  // Where the url points, for one of several caches that does not answer.
  std::string address_text() const {
    const Result<std::vector<RedisAddress>> addresses = parse_redis_urls(options_.url);
    if (!addresses || addresses->empty()) return "redis";
    return options_.sentinels.empty() ? addresses->front().to_string() : addresses->front().host;
  }

  Findings run() {
    check_sentinels();
    auto client = BlockingClient::open(options_);
    if (!client) {
      const Error& error = client.error();
      add("RD001", Severity::kError, address_text(), error.text,
          error.hint.empty() ? "start Redis, or look at 'redis: url:'" : error.hint);
      findings_.back().is_unreachable = error.kind != ErrorKind::kUsage;
      return std::move(findings_);
    }
    client_ = std::move(*client);
    where_ = client_->address().to_string();
    check_transport();
    if (!check_server()) return std::move(findings_);
    const auto addresses = parse_redis_urls(options_.url);
    if (!is_cluster_ && addresses && addresses->size() > 1) {
      add("RD017", Severity::kError, where_, "this server is not in cluster mode, and 'redis: url:' names several addresses", std::string(kSeveralAddressesHint));
    }
    if (is_cluster_) {
      check_cluster();
    } else {
      check_one();
      check_keys();
      check_indexes();
    }
    return std::move(findings_);
  }

 private:
  void add(std::string id, Severity severity, std::string object, std::string cause,
           std::string fix) {
    findings_.push_back(
        Finding{std::move(id), severity, std::move(object), std::move(cause), std::move(fix)});
  }

  // What is asked of each server alike.
  void check_one() {
    check_commands();
    check_rights();
    if (check_write() && needs_scripts()) check_scripts();
    check_library();
    check_memory();
    check_persistence();
    check_replicas();
  }

  // All slots are served, and every master is what one server would have to be.
  void check_cluster() {
    const auto map = SlotMap::read(ask({"CLUSTER", "SLOTS"}), HostPort{client_->address().host, client_->address().port});
    if (!map) {
      add("RD017", Severity::kError, where_, "'CLUSTER SLOTS' was refused, or answered with something else", "allow '+cluster|slots +cluster|info +cluster|nodes' to evictd's user");
      return;
    }
    if (!options_.sentinels.empty()) {
      add("RD017", Severity::kError, where_, "this is a node of a Redis Cluster, and 'redis: sentinels:' is set", "a cluster needs no Sentinels: leave them out");
    }
    for (const RuleInfo& rule : rules_.rules()) {
      if (!rule.semantic.empty()) {
        add("RD017", Severity::kError, rule.place.to_string(), "the rule has 'semantic', which is not there yet on a Redis Cluster",
            "leave 'semantic' out of the rules that act on this cache");
      }
      if (!has_channel(rule)) continue;
      add("RD017", Severity::kError, rule.place.to_string(), "the rule has 'announce', which cannot be counted on a Redis Cluster",
          "leave 'announce' out of the rules that act on this cache");
    }
    if (const SlotSet missing = map->unserved(); missing.any()) {
      add("RD017", Severity::kError, where_,
          "no node of the cluster serves the slots " + ranges_text(missing).substr(0, 100) + " (" + std::to_string(missing.count()) + " of 16384)",
          "give them to a master: redis-cli --cluster fix");
    }
    for (const HostPort& master : map->masters()) {
      auto client = BlockingClient::open(options_, master);
      where_ = master.to_string();
      if (!client) {
        add("RD001", Severity::kError, where_, "this master of the cluster does not answer: " + client.error().text, client.error().hint.empty() ? "start it, or let a replica take over" : client.error().hint);
        continue;
      }
      client_ = std::move(*client);
      probe_ = "evictd:probe:{" + slot_tag(copy_slot(map->slots_of(master), std::nullopt)) + "}";
      if (check_server()) check_one();
    }
  }

  // Each by itself: one that is away, or knows another master, is found out in the night of the failover.
  void check_sentinels() {
    if (options_.sentinels.empty()) return;
    std::map<std::string, std::vector<std::string>> masters;  // -> who says so
    for (const HostPort& sentinel : options_.sentinels) {
      RedisOptions one = options_;
      one.sentinels = {sentinel};
      const auto master = ask_sentinels(one);
      if (master) {
        masters[master->to_string()].push_back(sentinel.to_string());
      } else {
        add("RD014", Severity::kWarning, sentinel.to_string(), master.error().text, master.error().hint);
      }
    }
    std::string text;
    for (const auto& [master, sayers] : masters) {
      text += text.empty() ? "the master is '" : ", and '";
      text += master + "' by the word of ";
      for (std::size_t i = 0; i < sayers.size(); ++i) text += (i == 0 ? "'" : ", '") + sayers[i] + "'";
    }
    if (masters.size() > 1) {
      add("RD014", Severity::kWarning, "redis", "the Sentinels do not agree: " + text,
          "wait for the end of a failover; or look at 'sentinel monitor' of each");
    } else if (masters.size() == 1) {
      add("RD014", Severity::kInfo, "redis", "found by Sentinel: " + text, "nothing to do");
    }
    if (options_.sentinels.size() < 3 && !masters.empty()) {
      add("RD014", Severity::kInfo, "redis", std::to_string(options_.sentinels.size()) + " Sentinels are named; a failover needs a majority of at least three",
          "name all of them under 'redis: sentinels:'");
    }
  }

  // A broken connection in the middle reads like an error reply.
  Reply ask(const std::vector<std::string>& arguments) {
    auto reply = client_->command(arguments);
    if (reply) return std::move(*reply);
    Reply broken;
    broken.kind = Reply::Kind::kError;
    broken.text = reply.error().text;
    return broken;
  }

  // CONFIG GET one; empty when it may not be asked.
  std::string setting(const std::string& name) {
    const Reply reply = ask({"CONFIG", "GET", name});
    return reply.elements.size() == 2 ? reply.elements[1].text : std::string();
  }

  void check_transport() {
    const RedisAddress& address = client_->address();
    const bool is_near = !address.socket_path.empty() || address.host == "localhost" || address.host == "::1" ||
                         address.host.starts_with("127.");
    if (address.tls || is_near) return;
    add("RD016", Severity::kWarning, where_,
        "without TLS, whoever stands in between can read the password and the values, and answer for Redis",
        "use rediss://, or a network that nobody else reaches");
  }

  // Whoever writes a tag's set chooses what is deleted with it.
  void check_foreign_keys(const std::string& user) {
    const auto has_sets = std::any_of(rules_.rules().begin(), rules_.rules().end(), has_tag_sets);
    if (!has_sets || !ask({"ACL", "DRYRUN", user, "UNLINK", "\x01" "a key of nobody"}).is_ok()) return;
    add("RD015", Severity::kInfo, where_,
        "user '" + user + "' may delete any key, and deletes what the set of a tag lists: whoever may write 'tag:*' can name "
        "any key there",
        "give evictd a user that reaches the keys of its rules only: docs/redis.md has the line");
  }

  bool check_server() {
    const Reply reply = ask({"INFO"});
    if (reply.is_error()) {
      const Error error = redis_error(reply.text);
      if (reply.text.starts_with("ERR unknown command")) {
        add("RD013", Severity::kError, where_, "Redis has no command 'INFO' (evictd asks for it at every connect); it concerns every rule",
            "take 'rename-command INFO' out of redis.conf");
        return false;
      }
      add("RD003", Severity::kError, where_, "'INFO' was refused: " + error.text,
          "ACL SETUSER " + redis_word(client_->address().user.empty() ? "default" : client_->address().user) + " +info");
      return false;
    }
    info_ = reply.text;
    const auto info = parse_server_info(reply.text);
    if (!info) {
      add("RD002", Severity::kError, where_, "this is not a Redis server", "look at 'redis: url:'");
      return false;
    }
    is_cluster_ = info->is_cluster;
    if (!info->is_master && !is_cluster_) {
      add("RD002", Severity::kError, where_,
          "this is a replica of '" + info_field("master_host") + "'",
          "point 'redis: url:' at the master");
    }
    int major = 0;
    std::from_chars(info->version.data(), info->version.data() + info->version.size(), major);
    if (major < 6) {
      add("RD002", Severity::kError, where_,
          "expected Redis 6 or newer, got '" + info->version + "'", "upgrade Redis");
    }
    return std::none_of(findings_.begin(), findings_.end(), [this](const Finding& finding) { return finding.id == "RD002" && finding.object == where_; });
  }

  std::string info_field(std::string_view name) const {
    const std::string start = "\n" + std::string(name) + ":";
    const std::size_t at = info_.find(start);
    if (at == std::string::npos) return {};
    const std::size_t begin = at + start.size();
    return info_.substr(begin, info_.find_first_of("\r\n", begin) - begin);
  }

  // Whom a command that is missing concerns.
  struct Need {
    std::string_view command;
    std::string_view what_for;
    bool (*concerns)(const RuleInfo&);
  };
  static bool any_rule(const RuleInfo&) { return true; }
  static bool has_scripts(const RuleInfo& rule) { return !asks_for_deletes_only(rule); }
  static bool has_plain_tags(const RuleInfo& rule) { return has_tags(rule) && !has_scripts(rule); }
  static bool has_tags(const RuleInfo& rule) { return !rule.tag_templates.empty(); }
  static bool has_tag_sets(const RuleInfo& rule) { return has_tags(rule) && rule.tags_mode == TagsMode::kMembers; }
  static bool has_counters(const RuleInfo& rule) { return !rule.bump_templates.empty(); }
  static bool has_channel(const RuleInfo& rule) { return !rule.announce.empty(); }

  // Commands that 'rename-command' took away, or that this server never had. `run` would find out one by one.
  void check_commands() {
    static constexpr Need kNeeds[] = {
        {"EVALSHA", "nothing is deleted without it", has_scripts},
        {"SCRIPT", "nothing is deleted without it", has_scripts},
        {"UNLINK", "nothing is deleted without it", any_rule},
        {"MGET", "the scripts need it", has_scripts},
        {"GETRANGE", "the scripts need it", has_scripts},
        {"EXISTS", "the scripts need it", has_scripts},
        {"GET", "the record is read with it", any_rule},
        {"SET", "the record is written with it", any_rule},
        {"PTTL", "the scripts need it", has_scripts},
        {"PEXPIRE", "the scripts need it", has_scripts},
        {"PERSIST", "the record is written with it", has_scripts},
        {"MULTI", "tags are walked with it", has_plain_tags},
        {"EXEC", "tags are walked with it", has_plain_tags},
        {"TIME", "evictd asks for it at every connect", any_rule},
        {"SCAN", "patterns are purged with it: TRUNCATE, gaps, 'purge:'", any_rule},
        {"SSCAN", "tags are walked with it", has_tag_sets},
        {"ZSCAN", "joined tags are walked with it", has_tag_sets},
        {"SREM", "tags are walked with it", has_tag_sets},
        {"ZADD", "counters need it", has_counters},
        {"ZREMRANGEBYSCORE", "counters need it", has_counters},
        {"ZREMRANGEBYRANK", "counters need it", has_counters},
        {"INCRBY", "counters need it", has_counters},
        {"EVAL", "announcements need it", has_channel},
        {"INCR", "announcements need it", has_channel},
        {"PUBLISH", "announcements need it", has_channel},
    };
    std::vector<std::string> arguments = {"COMMAND", "INFO"};
    for (const Need& need : kNeeds) arguments.emplace_back(need.command);
    const Reply reply = ask(arguments);
    if (reply.kind != Reply::Kind::kArray || reply.elements.size() != std::size(kNeeds)) {
      add("RD013", Severity::kInfo, where_,
          "it could not be checked which commands there are: " +
              (reply.is_error() ? "'" + reply.text + "'" : std::string("an unexpected reply to COMMAND INFO")),
          "allow '+command|info' for the check");
      return;
    }
    for (std::size_t i = 0; i < std::size(kNeeds); ++i) {
      const Reply& found = reply.elements[i];
      if (found.kind == Reply::Kind::kArray && !found.elements.empty()) continue;
      const std::string rules = concerned(kNeeds[i]);
      if (rules.empty()) continue;
      add("RD013", Severity::kError, where_,
          "Redis has no command '" + std::string(kNeeds[i].command) + "' (" + std::string(kNeeds[i].what_for) +
              "); it concerns " + rules,
          "take 'rename-command " + std::string(kNeeds[i].command) + "' out of redis.conf, or leave those rules out");
    }
  }

  // "every rule", or their names.
  std::string concerned(const Need& need) const {
    constexpr std::size_t kNamesMax = 5;
    std::vector<std::string_view> names;
    for (const RuleInfo& rule : rules_.rules()) {
      if (need.concerns(rule)) names.push_back(rule.name);
    }
    if (names.size() == rules_.rules().size()) return "every rule";
    std::string text;
    for (std::size_t i = 0; i < std::min(names.size(), kNamesMax); ++i) {
      text += (i == 0 ? "'" : ", '") + std::string(names[i]) + "'";
    }
    if (names.size() > kNamesMax) text += " and " + std::to_string(names.size() - kNamesMax) + " more";
    return text;
  }

  // What the daemon runs, tried by ACL DRYRUN on a key of each rule and on evictd's own.
  void check_rights() {
    const Reply user = ask({"ACL", "WHOAMI"});
    if (user.is_error()) {
      add("RD003", Severity::kInfo, where_, "the rights could not be checked: " + user.text,
          "allow '+acl|whoami +acl|dryrun' for the check");
      return;
    }
    // What is done to each key.
    struct Use {
      bool takes_script = false;
      bool is_tag_set = false;
    };
    std::map<std::string, Use> keys = {{probe_, {needs_scripts(), false}}};
    for (const RuleInfo& rule : rules_.rules()) {
      for (const Pattern& pattern : rule.patterns) {
        if (pattern.is_lazy || pattern.is_surrogate || pattern.is_semantic) continue;  // a marker and nothing else; nothing in Redis
        const std::optional<std::string> sample = Glob(pattern.glob).sample();
        if (!sample) continue;  // it names no key
        Use& use = keys[*sample];
        use.takes_script = use.takes_script || has_scripts(rule);
        use.is_tag_set = use.is_tag_set || pattern.is_tag;
      }
    }
    std::set<std::string> missing;
    if (is_cluster_) check_cluster_rights(user.text);
    for (const auto& [key, use] : keys) {
      for (const std::vector<std::string>& command : commands_on(key, use.takes_script, use.is_tag_set)) {
        std::vector<std::string> arguments = {"ACL", "DRYRUN", user.text};
        arguments.insert(arguments.end(), command.begin(), command.end());
        const Reply reply = ask(arguments);
        if (reply.is_ok()) continue;
        if (reply.is_error()) {
          add("RD003", Severity::kInfo, where_, "the rights could not be checked: " + reply.text,
              "Redis 7 has ACL DRYRUN; allow '+acl|dryrun' for the check");
          return;
        }
        if (!missing.insert(command[0] + " " + key).second) continue;
        add("RD003", Severity::kError, where_,
            "user '" + user.text + "' may not run " + command[0] + " on '" + key + "'",
            "'evictd check --acl' prints the user that the rules need (docs/redis.md)");
      }
    }
    check_foreign_keys(user.text);
  }

  // Of no key.
  void check_cluster_rights(const std::string& user) {
    for (const std::vector<std::string>& command :
         {std::vector<std::string>{"CLUSTER", "INFO"}, {"CLUSTER", "SLOTS"}, {"CLUSTER", "NODES"}, {"ASKING"}}) {
      std::vector<std::string> arguments = {"ACL", "DRYRUN", user};
      arguments.insert(arguments.end(), command.begin(), command.end());
      const Reply reply = ask(arguments);
      if (reply.is_ok() || reply.is_error()) continue;
      add("RD003", Severity::kError, where_, "user '" + user + "' may not run " + command[0] + (command.size() > 1 ? " " + command[1] : ""),
          "'evictd check --acl' prints the user that the rules need (docs/redis.md)");
    }
  }

  bool needs_scripts() const {
    return std::any_of(rules_.rules().begin(), rules_.rules().end(), has_scripts);
  }

  std::vector<std::vector<std::string>> commands_on(const std::string& key, bool takes_script, bool is_tag_set) const {
    std::vector<std::vector<std::string>> commands = {
        {"UNLINK", key}, {"SCAN", "0"}, {"TIME"}, {"GET", probe_}, {"SET", probe_, "x"}};
    if (takes_script) {
      const std::string marker = marker_name(key);
      const std::vector<std::vector<std::string>> more = {
          {"EVALSHA", std::string(40, '0'), "2", key, marker}, {"MGET", marker}, {"GETRANGE", marker, "0", "1"}, {"EXISTS", marker}, {"SET", marker, "x", "PX", "1000"}, {"PTTL", marker},
          {"PEXPIRE", marker, "1000"}, {"GET", marker}, {"SCRIPT", "LOAD", "return 1"}, {"PERSIST", marker}};
      commands.insert(commands.end(), more.begin(), more.end());
    }
    if (is_tag_set) {
      commands.push_back({"SSCAN", key, "0"});
      commands.push_back({"ZSCAN", key, "0"});
      commands.push_back({"SREM", key, "x"});
      if (!takes_script) {
        commands.push_back({"MULTI"});
        commands.push_back({"EXEC"});
      }
    }
    return commands;
  }

  bool check_write() {
    Reply reply = ask({"SET", probe_, "1", "PX", "1000"});
    const Reply unlinked = ask({"UNLINK", probe_});
    if (unlinked.is_error()) reply = unlinked;
    if (!reply.is_error()) return true;
    const Error error = redis_error(reply.text);
    add("RD011", Severity::kError, where_, "a probe write was refused: '" + reply.text + "'",
        error.hint.empty() ? "find out why Redis refuses writes" : error.hint);
    return unlinked.kind == Reply::Kind::kInteger;
  }

  // The real script, on a key of ours, with a version that Lua's numbers would get wrong.
  void check_scripts() {
    const std::string& key = probe_;
    // As the daemon runs it: its rights need no EVAL.
    Reply reply = ask({"SCRIPT", "LOAD", std::string(script(Script::kInvalidate).text)});
    if (!reply.is_error()) {
      reply = ask({"EVALSHA", reply.text, "2", key, marker_name(key), "check/0", "1000", "if", "0", "v18446744073709551615"});
    }
    const Reply marker = ask({"GET", marker_name(key)});
    ask({"UNLINK", key, marker_name(key)});
    if (!reply.is_error() && marker.text == "t check/0 v18446744073709551615") return;
    add("RD004", Severity::kError, where_,
        reply.is_error()
            ? "the invalidate script failed: '" + reply.text + "'"
            : "the invalidate script left '" + marker.text + "' instead of its tombstone",
        "evictd needs Lua scripting (EVALSHA) as Redis 6 and newer have it");
  }

  // The functions that are there refuse fills by the age that their tombstones live. Those of another evictd may let pass what ours
  // no longer guard against.
  void check_library() {
    const bool has_checked = std::any_of(rules_.rules().begin(), rules_.rules().end(), [](const RuleInfo& rule) { return rule.fill == FillMode::kChecked; });
    if (!has_checked) return;
    const Reply reply = ask({"FCALL", "evictd_version", "0"});
    const std::size_t space = reply.text.find(' ');
    if (reply.kind != Reply::Kind::kText || reply.is_error() || space == std::string::npos) return;
    std::int64_t milliseconds = 0;
    std::string_view text = std::string_view(reply.text).substr(space + 1);
    text = text.substr(0, text.find(' '));  // "5 60000", "5 60000 cluster"
    if (std::from_chars(text.data(), text.data() + text.size(), milliseconds).ec != std::errc()) return;
    if (std::chrono::milliseconds(milliseconds) == options_.tombstone_ttl) return;
    add("RD023", Severity::kWarning, where_,
        fmt::format("the functions for readers are those of a 'tombstone_ttl' of {}, and this configuration says {}: the one with the shorter one is "
                    "not safe from late fills",
                    duration_text(std::chrono::milliseconds(milliseconds)), duration_text(options_.tombstone_ttl)),
        "give every evictd on this Redis the same 'tombstone_ttl'; if there is no other, restart this one");
  }

  void check_memory() {
    const std::string limit = info_field("maxmemory");
    const std::string policy = info_field("maxmemory_policy");
    if (limit.empty() || limit == "0") return;
    KeptBesideValues kept;
    for (const RuleInfo& rule : rules_.rules()) kept = kept | kept_by(rule);
    // What one of these says must not be followed into what another one warns of.
    const std::string better = better_policy(kept, is_cluster_);
    check_eviction(policy, better);
    const bool has_tombstones = kept.has_tombstones;
    kept = {.has_tombstones = has_tombstones};
    if (const std::string what = endangered_by(policy, kept, is_cluster_); !what.empty()) {
      add("RD005", severity_of_evictions(), where_, fmt::format("'maxmemory-policy' is '{}', which may take {}", policy, what), better);
    } else if (policy == "noeviction") {
      if (better.ends_with("noeviction")) return;
      add("RD005", Severity::kWarning, where_,
          fmt::format("'maxmemory-policy' is 'noeviction': a full Redis refuses fills{}", has_tombstones ? ", and tombstones go beyond its limit" : ""), better);
    } else if (policy == "allkeys-random") {
      add("RD005", Severity::kWarning, where_,
          "'maxmemory-policy' is 'allkeys-random': evictd's record is evicted as soon as anything else, and each time all that the rules match is purged", better);
    } else if (policy.starts_with("volatile-") && better.ends_with("allkeys-lru")) {
      add("RD005", Severity::kWarning, where_,
          "'maxmemory-policy' is '" + policy + "': values without a lifetime are never evicted",
          better);
    }
  }

  // It may happen; it has happened, which keeps `run` from being ready.
  Severity severity_of_evictions() const {
    const std::string evicted = info_field("evicted_keys");
    return evicted.empty() || evicted == "0" ? Severity::kWarning : Severity::kError;
  }

  // What some rules keep in Redis must not be evicted before the rest.
  void check_eviction(const std::string& policy, const std::string& better) {
    for (const RuleInfo& rule : rules_.rules()) {
      KeptBesideValues kept = kept_by(rule);
      kept.has_tombstones = false;  // told of all rules at once
      const std::string what = endangered_by(policy, kept, is_cluster_);
      if (what.empty()) continue;
      std::string otherwise;
      if (kept.has_stale_marks) {
        otherwise = "; or use 'mode: delete'";
      } else if (kept.has_tag_sets) {
        otherwise = "; or use 'tags_mode: lazy'";
      }
      add("RD012", severity_of_evictions(), rule.place.to_string(), fmt::format("'maxmemory-policy' is '{}', which may take {}", policy, what), better + otherwise);
    }
  }

  void check_persistence() {
    const std::string save = setting("save");
    const std::string append_only = setting("appendonly");
    const std::string replicas = info_field("connected_slaves");
    if (!save.empty() || append_only == "yes") {
      add("RD006", Severity::kInfo, where_,
          "Redis can restart from older data (save '" + save + "', appendonly '" + append_only +
              "') and bring back deleted keys; evictd notices the restart and repairs",
          "for a pure cache: CONFIG SET save ''");
    }
    if (!replicas.empty() && replicas != "0") {
      add("RD006", Severity::kInfo, where_,
          "a replica that is promoted may lack the last deletes (" + replicas +
              " connected); evictd notices the change and repairs",
          "set 'min-replicas-to-write' and 'min-replicas-max-lag' to bound it");
    }
  }

  // With too few of them evictd runs, and acknowledges nothing.
  void check_replicas() {
    if (options_.replicas_ack == 0) return;
    const std::string wanted = "'replicas_ack' asks for " + std::to_string(options_.replicas_ack);
    // Asks for none, so it answers at once.
    if (const Reply reply = ask({"WAIT", "0", "1"}); reply.kind != Reply::Kind::kInteger) {
      add("RD022", Severity::kError, where_, wanted + ", and WAIT was refused: " + (reply.is_error() ? "'" + reply.text + "'" : "an answer of another kind"),
          "allow '+wait' to evictd's user, or leave 'replicas_ack' out");
      return;
    }
    std::size_t online = 0;
    for (std::size_t at = info_.find("state=online"); at != std::string::npos; at = info_.find("state=online", at + 1)) ++online;
    if (online >= options_.replicas_ack) return;
    add("RD022", Severity::kError, where_,
        wanted + (options_.replicas_ack == 1 ? " replica, and " : " replicas, and ") + std::to_string(online) +
            (online == 1 ? " is in step" : " are in step") + ": nothing would be acknowledged",
        "start a replica, or lower 'replicas_ack'");
  }

  // A sample of the key space, once for all patterns.
  void check_keys() {
    if (info_field("db" + std::to_string(client_->address().database)).empty()) return check_other_databases();  // nothing is cached yet
    for (const RuleInfo& rule : rules_.rules()) {
      for (const Pattern& pattern : rule.patterns) {
        if (!pattern.is_surrogate && !pattern.is_semantic) check_pattern(rule, pattern);
      }
    }
    if (any_key_ && any_key_->empty()) check_other_databases();
  }

  // This one has no key of the application's: a number that was forgotten looks like a cache that is still empty.
  void check_other_databases() {
    const std::uint32_t own = client_->address().database;
    std::uint64_t most = 0;
    std::string fullest;
    for (std::uint32_t number = 0; number < kDatabasesMax; ++number) {
      const std::string keyspace = info_field("db" + std::to_string(number));  // "keys=7,expires=0,avg_ttl=0"
      const std::uint64_t keys = keyspace.starts_with("keys=") ? std::strtoull(keyspace.c_str() + 5, nullptr, 10) : 0;
      if (number == own || keys <= most) continue;
      most = keys;
      fullest = std::to_string(number);
    }
    if (fullest.empty()) return;
    add("RD009", Severity::kInfo, where_, fmt::format("database {} of this Redis has no cached key, and database {} has {} keys", own, fullest, most),
        "nothing, when the cache is still empty; when that one is the readers', write its number behind the '/' of 'redis: url:'");
  }

  void check_pattern(const RuleInfo& rule, const Pattern& pattern) {
    std::string cursor = "0";
    for (int i = 0; i < kScanCallsMax; ++i) {
      const Reply page = ask({"SCAN", cursor, "MATCH", pattern.glob, "COUNT", "1000"});
      if (page.elements.size() != 2) return;
      for (const Reply& key : page.elements[1].elements) {
        if (key.text.starts_with("evictd:")) continue;
        if (pattern.is_tag) check_tag(key.text);
        return;
      }
      cursor = page.elements[0].text;
      if (cursor == "0") break;
    }
    if (cursor != "0") return;  // not all was looked at
    // One for all patterns, so that what is told of them is told together.
    if (!any_key_) any_key_ = draw_key();
    add("RD009", Severity::kWarning, rule.place.to_string(),
        "no key in Redis matches '" + pattern.glob + "'",
        any_key_->empty() ? "nothing to do when the cache is still empty"
                          : "look at the template's prefix and at the database number; a key that is there: '" + *any_key_ + "'");
  }

  // A key of the application's, where there is one: half of the keys or more may be markers of ours.
  std::string draw_key() {
    const auto drawn = client_->pipeline(std::vector<std::vector<std::string>>(kDraws, {"RANDOMKEY"}));
    if (!drawn) return {};
    for (const Reply& key : *drawn) {
      if (key.kind == Reply::Kind::kText && !key.text.starts_with("evictd:")) return key.text;
    }
    return {};
  }

  void check_tag(const std::string& key) {
    const Reply size = ask({"SCARD", key});
    if (size.is_error()) {
      const Reply type = ask({"TYPE", key});
      add("RD010", Severity::kWarning, key,
          "expected a set of keys, got a " + type.text + ": evictd would delete it",
          "keep tags and cached values under different names");
    } else if (size.integer > kLargeTag) {
      add("RD010", Severity::kWarning, key,
          "the tag has " + std::to_string(size.integer) + " members; its walk takes a while",
          "use a narrower tag");
    }
  }

  // Each index once for every entry that names it.
  void check_indexes() {
    bool has_sets = false;
    for (const RuleInfo& rule : rules_.rules()) {
      for (const SemanticInfo& entry : rule.semantic) {
        if (entry.engine == SemanticEngine::kSearch) {
          check_search_index(entry);
        } else {
          has_sets = check_vector_set(entry) || has_sets;
        }
      }
    }
    const std::string version = info_field("redis_version");
    if (!has_sets || !is_removal_unsafe(version)) return;
    add("RD019", Severity::kWarning, where_,
        "Redis " + version + " may use freed memory when elements of a vector set are removed while other clients search it in the background",
        "upgrade to 8.2.9, 8.4.6, 8.6.6, 8.8.2, 8.10.1 or later; until then let the application search with VSIM ... NOTHREAD");
  }

  // True when the server has vector sets.
  bool check_vector_set(const SemanticInfo& entry) {
    const Reply reply = ask({"VINFO", entry.index});
    const std::string object = entry.place.to_string();
    if (reply.is_error()) {
      const bool is_other = reply.text.starts_with("WRONGTYPE");
      add("RD021", Severity::kError, object,
          is_other ? "'" + entry.index + "' is no vector set" : "the vector set '" + entry.index + "' cannot be asked: " + reply.text,
          is_other ? "look at 'index' and at the database number"
                   : "vector sets need Redis 8, and a user with +vinfo +vsim +vrem +vrandmember +renamenx; RediSearch: 'engine: search'");
      return is_other;
    }
    const auto read = read_vector_set(reply);
    if (!read || !read->set) {
      add("RD018", Severity::kInfo, object, "the vector set '" + entry.index + "' is not there yet", "nothing to do when the cache is still empty");
      return true;
    }
    const VectorSet& set = *read->set;
    const std::string is_of = "the vector set '" + entry.index + "' has " + std::to_string(set.size) + " elements of " +
                              std::to_string(set.dimensions) + " dimensions (" + set.quantisation + ")";
    if (entry.is_near() && !set.margin) {
      add("RD021", Severity::kError, object, is_of + ": its scores are no cosines, so each order clears what passes 'where'",
          "make it with Q8, the default, or NOQUANT, and without REDUCE");
    } else if (!entry.is_near() && set.size > kLargeScan) {
      add("RD018", Severity::kWarning, object, is_of + ": finding elements by attribute reads all of them, and who writes to the set waits meanwhile",
          "RediSearch has an index for that: 'engine: search'");
    } else {
      add("RD018", Severity::kInfo, object, is_of, entry.is_near() ? "vectors of column '" + entry.near + "' have to have as many" : "nothing to do");
    }
    return true;
  }

  void check_search_index(const SemanticInfo& entry) {
    const Reply reply = ask({"FT.INFO", entry.index});
    const std::string object = entry.place.to_string();
    if (reply.is_error()) {
      add("RD021", Severity::kError, object, "the index '" + entry.index + "' cannot be asked: " + reply.text,
          is_index_missing(reply.text) ? "make it with FT.CREATE" : "RediSearch has to be loaded, and the user needs +ft.info +ft.search");
      return;
    }
    const auto index = read_search_index(reply);
    if (!index) {
      add("RD021", Severity::kError, object, "the answer to FT.INFO of '" + entry.index + "' cannot be read", "is it RediSearch 2.4 or later?");
      return;
    }
    if (const std::string problem = search_index_problem(entry, *index); !problem.empty()) {
      add("RD021", Severity::kError, object, problem, "FT.ALTER or FT.CREATE; see docs/semantic.md");
      return;
    }
    std::string is_of = "the index '" + entry.index + "' has " + std::to_string(index->documents) + " documents";
    if (entry.is_near()) {
      const std::string& field = vector_field(entry, *index);
      is_of += ", and vectors of " + std::to_string(index->fields.at(field).dimensions) + " dimensions in '" + field + "'";
    }
    add("RD018", Severity::kInfo, object, is_of, entry.is_near() ? "vectors of column '" + entry.near + "' have to have as many" : "nothing to do");
  }

  const RedisOptions& options_;
  const RuleSet& rules_;
  std::unique_ptr<BlockingClient> client_;
  std::string where_;
  std::string probe_ = "evictd:probe";
  bool is_cluster_ = false;
  std::string info_;
  std::optional<std::string> any_key_;  // empty: none was found
  Findings findings_;
};

// Of a cluster's masters, each with a copy.
std::optional<Record> read_copies(const RedisOptions& options, const std::string& key, const SlotMap& map) {
  std::vector<ShardCopies> shards;
  for (const HostPort& master : map.masters()) {
    ShardCopies& shard = shards.emplace_back(ShardCopies{map.slots_of(master), {}});
    const auto client = BlockingClient::open(options, master);
    if (!client) continue;
    std::vector<std::vector<std::string>> commands = {{"GET", copy_key(key, copy_slot(shard.slots, std::nullopt))}};
    for (std::size_t slot = 0; slot < kSlots; slot += kCopySlotStep) {
      if (shard.slots.test(slot)) commands.push_back({"GET", copy_key(key, static_cast<Slot>(slot))});
    }
    const auto replies = (*client)->pipeline(commands);
    if (!replies) continue;
    for (const Reply& reply : *replies) {
      if (auto copy = reply.kind == Reply::Kind::kText ? copy_from_text(reply.text) : std::nullopt) shard.copies.push_back(std::move(*copy));
    }
  }
  return judge_copies(shards, std::nullopt).record;
}

}  // namespace

Findings check_redis(const RedisOptions& options, const RuleSet& rules) {
  return RedisCheck(options, rules).run();
}

bool is_cluster_by_its_own_word(RedisOptions options) {
  options.connect_timeout = options.command_timeout = std::chrono::seconds(1);
  const auto address = parse_redis_url(options.url);
  if (!address || !options.sentinels.empty() || !address->socket_path.empty()) return false;
  // The user may be the one that is to be made: a sign-in that fails would be in the server's log.
  const std::string host = address->host.find(':') == std::string::npos ? address->host : "[" + address->host + "]";
  options.url = (address->tls ? "rediss://" : "redis://") + host + ":" + std::to_string(address->port);
  options.credential = {};
  const auto client = BlockingClient::open(options);
  if (!client) return false;
  const auto reply = (*client)->command({"INFO"});
  const auto info = reply && reply->kind == Reply::Kind::kText ? parse_server_info(reply->text) : std::nullopt;
  return info && info->is_cluster;
}

std::optional<Record> read_record(const RedisOptions& options) {
  const auto client = BlockingClient::open(options);
  if (!client) return std::nullopt;
  const std::string key = record_key(options.record_name);
  if (const auto slots = (*client)->command({"CLUSTER", "SLOTS"}); slots && !slots->is_error()) {
    const auto map = SlotMap::read(*slots, HostPort{(*client)->address().host, (*client)->address().port});
    if (map) return read_copies(options, key, *map);
  }
  const auto reply = (*client)->command({"GET", key});
  if (!reply || reply->kind != Reply::Kind::kText) return std::nullopt;
  auto record = record_from_text(reply->text);
  return record ? std::optional<Record>(std::move(*record)) : std::nullopt;
}

}  // namespace evictd
