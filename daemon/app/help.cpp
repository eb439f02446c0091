// The help texts. Each says what the command does, what it changes, and shows one example.
#include "daemon/app/command_line.h"

namespace evictd {
namespace {

constexpr std::string_view kOverview = R"(evictd keeps a Redis cache true to its database.

usage: evictd <command> [-c evictd.yaml] [options]

  init        propose a configuration and rules for a database
  check       say what is wrong with files, database and Redis, and how to
              mend it; or write the DBA's script, or the ACL for Redis
  run         follow the database and delete what its changes make stale
  audit       tell how true the cache is, from a sample
  explain     show what a change would delete, and what holds a rule back
  watch       show what is being deleted right now, touching nothing
  rules       test the rules against changes of rows that you write down
  purge       delete the keys of a table's rules, of some rows, of a pattern
  warm        fill the cache from a rule's rows, for a cold start
  drop        remove the replication slot and the publication
  lua         print the functions that readers call in Redis
  completion  print the completion of this command line, for bash, zsh or fish
  man         print all of this as a manual page

  evictd <command> --help   options and an example
  evictd --version

exit status: 0 done or stopped as asked, 1 failed (a restart may help),
2 the command line or the configuration must change
)";

constexpr std::string_view kRun = R"(usage: evictd run [-c FILE]

Follows the database and deletes from Redis what each commit makes stale, until
SIGTERM or SIGINT. Creates its publication and slot when they are not there.
SIGHUP reads the rules again; when they are wrong, the old ones stay.

  -c, --config FILE   the configuration (default: evictd.yaml)

example: evictd run -c /etc/evictd/evictd.yaml
)";

constexpr std::string_view kCheck = R"(usage: evictd check [-c FILE] [--offline] [--json | --sql | --acl]

Checks the files, then the database and Redis against the rules, and prints
each problem with its fix. Changes nothing that lasts.

  -c, --config FILE   the configuration (default: evictd.yaml)
      --offline       the files only
      --json          one JSON document instead of text
      --sql           instead: a script for psql that gives the rules what they
                      need of PostgreSQL (role, grants, replica identities,
                      publication, settings); asks no server
      --acl           instead: the user of Redis that the rules need, as lines
                      for redis-cli; asks no server

exit status: 0 nothing to fix (warnings may be there), 1 something could not be
reached, 2 something must be fixed

example: evictd check -c evictd.yaml
)";

constexpr std::string_view kAudit =
    R"(usage: evictd audit [-c FILE] [--rule RULE] [--sample N] [--for TIME] [--rate N]
                    [--fix] [--json]

Compares a sample of the cache with the database and tells how much of it is
fresh, stale, in flight (evictd is still at it) or unreadable. Checked values
are judged by their markers; others by the 'audit' query of their rule. Prints
each stale key with the reason. Changes nothing without --fix.

  -c, --config FILE   the configuration (default: evictd.yaml)
      --rule RULE     only keys of this rule
      --sample N      so many keys (default: 1000, with --for all there are)
      --for TIME      go on for so long, over and over: 30s, 5m, 2h
      --rate N        at most so many questions per second to the database
                      (default: 20; each may ask for 50 keys)
      --fix           delete what is stale
      --json          one JSON object per stale key, then one with the counts

exit status: 0 nothing is stale, 1 something is, or evictd does not follow, or
nothing could be judged; 2 no rule can be audited

example: evictd audit -c evictd.yaml --for 5m
)";

constexpr std::string_view kExplain =
    R"(usage: evictd explain [-c FILE] --table TABLE --op OP [--old JSON] [--new JSON]
       evictd explain [-c FILE] --from-table TABLE [--where SQL] [--op OP]

Shows what one change of a row would delete, by which rule, and what holds the
others back. The first form reads the rules only and connects to nothing; the
second takes rows that are in the table now, and looks up the rows of joined
tables ('via') that they lead to.

  -c, --config FILE    the configuration (default: evictd.yaml)
      --table TABLE    for example products or public.products
      --op OP          insert, update, delete or truncate. With --from-table it
                       may be left out: everything a row can be cached under
      --old JSON       the old row, as far as the database sends it
      --new JSON       the new row; with --from-table what changes in the row
      --identity LIST  columns of the replica identity (default: id); an update
                       without --old left them as they are
      --from-table TABLE  rows of this table, of a rule or joined by one; needs
                       SELECT on it
      --where SQL      only these rows, for example 'id = 7'
      --limit COUNT    at most so many rows (default: 10)

A column that is left out of a row counts as not sent.

example: evictd explain --table products --op update \
           --old '{"id": 1, "slug": "blue"}' --new '{"id": 1, "slug": "red"}'
)";

constexpr std::string_view kWatch = R"(usage: evictd watch [-c FILE] [--table TABLE] [--rule RULE] [--json]

Prints each change of a row with what it would delete, and why when that is
nothing, until Ctrl-C. Uses a temporary
slot of its own; touches neither Redis nor a running evictd. The publication
must exist. Coloured on a terminal, unless NO_COLOR is set.

  -c, --config FILE   the configuration (default: evictd.yaml)
      --table TABLE   only changes of this table
      --rule RULE     only what this rule would delete, by changes of its joined
                      tables ('via') too
      --json          one JSON object per change and line; each of its actions
                      has kind, text, rule (its name), place (file:line:column)
                      and, where more happens, note

example: evictd watch -c evictd.yaml
)";

constexpr std::string_view kPurge =
    R"(usage: evictd purge [-c FILE] --table TABLE [--where SQL] [--since AGE]
       evictd purge [-c FILE] (--since AGE | --pattern GLOB [--yes])

Deletes every key that the rules of a table can make, or those of some rows, or
what matches a pattern. Readers fill the cache again from the database.

  -c, --config FILE    the configuration (default: evictd.yaml)
      --table TABLE    for example products or public.products
      --where SQL      only the keys of these rows, like 'category_id = 7';
                       needs SELECT on the table
      --since AGE      only the keys of rows written since, for example 10m;
                       without --table of every table that a rule names. Needs
                       track_commit_timestamp in PostgreSQL
      --pattern GLOB   a Redis pattern, for example 'product:*'
      --yes            also when no rule makes keys of this pattern

Rows are taken as they are now. Keys of rows that are gone, and of values that a
row had before, are not among them: --table alone purges those as well.

example: evictd purge --table products
)";

constexpr std::string_view kWarm = R"(usage: evictd warm [-c FILE] --rule RULE [--where SQL] [--rate N]

Fills the keys of a rule's rows, by the query of its 'refresh', as readers with
evictd_fill would: what is cached already, or is just being read, is left alone,
and nothing is stored that has not seen the last change. Paced; ends by itself.
'evictd run' has to follow the database meanwhile, or have done so.

  -c, --config FILE   the configuration (default: evictd.yaml)
      --rule RULE     whose 'refresh: {query: ...}' it is
      --where SQL     only the keys of these rows, like 'sold > 100';
                      needs SELECT on the table
      --rate N        so many keys a second at most (default: the per_second of
                      the rule)

Prints how many keys were filled, were fresh before, and so on. Rows are read in
one transaction that stays open until the end: take a large table in parts.

example: evictd warm --rule products --where 'category_id = 7'
)";

constexpr std::string_view kDrop = R"(usage: evictd drop [-c FILE] [--yes]

Removes the replication slot and the publication from the database, and evictd's
record from Redis. Stop evictd first. What changes afterwards is not followed:
the next 'evictd run' begins anew and keeps what is cached, unless the
configuration says 'on_first_start: purge'.

  -c, --config FILE   the configuration (default: evictd.yaml)
      --yes           do not ask

example: evictd drop -c evictd.yaml --yes
)";

constexpr std::string_view kLua = R"(usage: evictd lua [-c FILE] [--cluster] [--scripts]

Prints the function library that readers call (FCALL evictd_fill ...), as
FUNCTION LOAD takes it. 'evictd run' loads it by itself.

  -c, --config FILE   holds tombstone_ttl (default: evictd.yaml)
      --cluster       for servers of a Redis Cluster
      --scripts       single scripts for EVAL and EVALSHA instead, for servers
                      without functions

example: evictd lua | redis-cli -x FUNCTION LOAD REPLACE
)";

constexpr std::string_view kRules = R"(usage: evictd rules test [-c FILE] CASES...

Tests the rules: each case is a change of a row with the keys and tags that it
has to make. Prints what is missing and what is too much; connects to nothing.

  -c, --config FILE   the configuration (default: evictd.yaml)

A file of cases is a list:

  - name: a slug is renamed
    table: products
    old: {id: 1, slug: blue}
    new: {id: 1, slug: red}
    keys: ["product:1", "product:slug:blue", "product:slug:red"]

exit status: 0 all passed, 1 a case failed, 2 a file cannot be read

example: evictd rules test -c evictd.yaml cases.yaml
)";

constexpr std::string_view kInit = R"(usage: evictd init --postgres URL --redis URL [--out DIR]

Proposes evictd.yaml and rules.yaml from what the database says of itself:
primary keys, unique columns, foreign keys. Looks at names of keys in Redis for
the prefixes in use. What is guessed stands in comments: read them. Overwrites
nothing, and writes no password.

      --postgres URL   for example postgresql://evictd@localhost/shop
      --redis URL      for example redis://localhost:6379/0
      --out DIR        where the files go (default: the current folder)

example: evictd init --postgres postgresql://evictd@localhost/shop \
           --redis redis://localhost:6379/0 --out /etc/evictd
)";

constexpr std::string_view kCompletion = R"(usage: evictd completion [bash|zsh|fish]

Prints the completion of commands and options, for bash unless another shell
is named. Packages install it.

example: evictd completion > ~/.local/share/bash-completion/completions/evictd
         evictd completion zsh > /usr/local/share/zsh/site-functions/_evictd
         evictd completion fish > ~/.config/fish/completions/evictd.fish
)";

constexpr std::string_view kMan = R"(usage: evictd man

Prints the manual page, as man reads it. Packages install it.

example: evictd man | man -l -
)";

}  // namespace

std::string help_text(std::string_view topic) {
  if (topic == "run") return std::string(kRun);
  if (topic == "check") return std::string(kCheck);
  if (topic == "audit") return std::string(kAudit);
  if (topic == "explain") return std::string(kExplain);
  if (topic == "watch") return std::string(kWatch);
  if (topic == "purge") return std::string(kPurge);
  if (topic == "warm") return std::string(kWarm);
  if (topic == "drop") return std::string(kDrop);
  if (topic == "lua") return std::string(kLua);
  if (topic == "rules") return std::string(kRules);
  if (topic == "init") return std::string(kInit);
  if (topic == "completion") return std::string(kCompletion);
  if (topic == "man") return std::string(kMan);
  return std::string(kOverview);
}

}  // namespace evictd
