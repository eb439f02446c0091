// `evictd init`: a configuration and rules, proposed from what the database says of its tables and from names of keys in
// Redis. Pure. What is guessed stands beside it in a comment.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/sources/postgres/doctor/survey.h"

namespace evictd {

// How many keys begin with each prefix: "product", "app:product" of "app:product:7".
using KeyPrefixes = std::map<std::string, std::size_t>;
KeyPrefixes prefixes_of(const std::vector<std::string>& keys);

struct ProposalSources {
  Survey survey;
  KeyPrefixes prefixes;
  std::size_t keys_seen = 0;
  bool is_redis_seen = true;  // false: it was not reached
  std::string postgres_url;  // without passwords
  std::string redis_url;
  bool had_postgres_password = false;
  bool had_redis_password = false;
};

struct Proposal {
  std::string config;  // evictd.yaml
  std::string rules;   // rules.yaml; holds no rule, and is no file of rules, when `tables` is 0
  std::size_t tables = 0;    // with a rule
  std::size_t left_out = 0;  // named in a comment, with the reason
  std::string reasons;       // those comments
};

Proposal propose(const ProposalSources& sources);

// "categories" -> "category", "boxes" -> "box", "products" -> "product", "status" as it is: a guess.
std::string singular(std::string_view name);

}  // namespace evictd
