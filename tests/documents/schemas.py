"""The JSON Schemas of evictd.yaml and rules.yaml, in the words of the parser (mapping/rules_parser.cpp, daemon/app/config.cpp).

    tests/documents/schemas.py        writes deploy/schema/*.json anew

A schema is for an editor: it completes, and underlines what the parser refuses, as far as a schema can tell.
"""

import json
import os

import jsonschema

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(ROOT, "deploy", "schema")

VARIABLE = {"type": "string", "pattern": r"\$\{"}  # the value comes from the environment: nobody can tell


def one_of(*patterns):
    return "|".join(f"(?:{pattern})" for pattern in patterns)


def up_to(number):
    """A pattern for whole numbers from 0 to `number`, leading zeros allowed."""
    digits = str(number)
    shorter = [f"[0-9]{{1,{len(digits) - 1}}}"] if len(digits) > 1 else []
    same = []
    for i, digit in enumerate(digits):
        rest = len(digits) - i - 1
        if digit != "0":
            same.append(digits[:i] + f"[0-{int(digit) - 1}]" + (f"[0-9]{{{rest}}}" if rest else ""))
    return "0*" + f"(?:{'|'.join(shorter + same + [digits])})"


def with_units(least, most, units):
    """A pattern for "<number><unit>" between bounds, which count in the smallest unit."""
    forms = []
    for unit, factor in units:
        form = up_to(most // factor) + unit
        low = -(-least // factor)
        if low > 0:
            form = f"(?!{up_to(low - 1)}{unit}$)" + form
        forms.append(form)
    return f"^(?:{'|'.join(forms)})$"


DURATIONS = (("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000))
SIZES = (("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30))

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
TEXT = {"type": ["string", "number", "boolean"]}  # the parser takes texts as they are written
WORD = {"type": ["string", "integer", "boolean"], "minimum": 0}
NO_URL = "^(?!.*://)"  # it would be shown, with the password in it
FILLED = {"type": ["string", "number", "boolean"], "minLength": 1}
YES_OR_NO = {"type": "boolean"}


# Of a Sentinel: a name or an address, and perhaps a port from 1 to 65535.
HOST_PORT = r"^(?:\[[^\]/@ \t?#]+\]|[^\[:/@ \t?#][^:/@ \t?#]*)(?::(?!0*$)" + up_to(65535) + ")?$"


def text(pattern, what):
    return {"type": "string", "pattern": pattern, "description": what}


def duration(least, most, what, default=None):
    return described(text(with_units(least, most, DURATIONS), what), default)


def size(least, most, what, default=None):
    return described(text(with_units(least, most, SIZES), what), default)


def described(schema, default):
    return schema if default is None else dict(schema, default=default)


def choice(what, *words, default=None):
    return described({"enum": list(words), "description": what}, default)


def number(least, most, what, default=None):
    return described({"anyOf": [{"type": "integer", "minimum": least, "maximum": most},
                                {"type": "string", "pattern": f"^(?!0*$){up_to(most)}$" if least else f"^{up_to(most)}$"}],
                      "description": what}, default)


def texts(item, what, least=1, most=None):
    """A list of texts, none twice; one text stands for a list of one."""
    several = {"type": "array", "items": item, "minItems": least, "uniqueItems": True}
    if most:
        several["maxItems"] = most
    return {"anyOf": [item, several], "description": what}


def settings(properties, required=(), what=None, null=True, **more):
    schema = {"type": ["object", "null"] if null and not required else "object", "properties": properties,
              "additionalProperties": False, **more}
    if required:
        schema["required"] = list(required)
    if what:
        schema["description"] = what
    return schema


# Templates, as mapping/template.cpp reads them.
NAME = r" *(?:\"(?:[^\"]|\"\")+\"|[A-Za-z0-9_$\-\u0080-\U0010ffff]+) *"
QUOTED = r"(?:'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
PLAIN_FILTERS = r" *\"?(?:lower|upper|trim|urlencode|md5|sha1|sha256)\"? *"
DATE = r" *date *\( *(?:'(?:[^%']|%[YymdjHMS%])*'|\"(?:[^%\"]|%[YymdjHMS%])*\") *\) *"
DEFAULT = rf" *default *\( *{QUOTED} *\) *"
FILTER = f"(?:{PLAIN_FILTERS}|{DATE}|{DEFAULT})"
STEP = rf"(?:\.(?:{NAME}| *\* *))"
RULE_VARIABLE = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"
PLACEHOLDER = rf"(?:{RULE_VARIABLE}|\{{{NAME}{STEP}{{0,17}}(?:\|{FILTER}){{0,8}}\}})"
PIECE = rf"(?:[^{{}}]|\{{\{{|\}}\}}|{PLACEHOLDER})"
TELLING = r"[A-Za-z0-9\u0080-\U0010ffff]"
LITERAL = r"(?:[^{}]|\{\{|\}\})"
TAG = {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": 1024, "pattern": f"^{PIECE}*$"}
KEY = dict(TAG, pattern=f"^(?!evictd:)(?=(?:(?!{TELLING}){PIECE}|{PLACEHOLDER})*{TELLING}){PIECE}*$")
PURGE = {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": 1024}

MATCHED = rf"^{NAME}(?:\.{NAME})?$"
COLUMNS = "columns, by the names that the database stores"


def common():
    return {
        "fill": choice("how readers store values: an ordinary SET, or evictd's function", "plain", "checked", default="plain"),
        "settle": duration(0, HOUR, "with fill: plain: how long after the commit became visible the second delete follows", default="1s"),
        "on_missing": choice("what to do when a key cannot be built", "purge", "stop", "ignore", default="purge"),
        "collapse_after": number(1, 1_000_000_000, "a transaction that touches more keys of this rule is one purge of its patterns",
                                 default=10_000_000),
        "purge_every": duration(0, HOUR, "the least time between two purges of one pattern that changes ask for", default="1s"),
    }


CHECKED = {"properties": {"fill": {"const": "checked"}}}


def semantic():
    element = r"\{ *(?:element|\"element\") *\}"
    key = dict(FILLED, maxLength=1024, pattern=rf"^(?!evictd:){LITERAL}*{element}(?:{LITERAL}|{element})*$")
    return settings({
        "index": dict(FILLED, maxLength=1024, pattern=r"^(?!evictd:)[^{}]*$", description="the vector set, or the index of RediSearch"),
        "engine": choice("what the index is of", "vset", "search", default="vset"),
        "where": {"type": "object", "minProperties": 1, "maxProperties": 16, "additionalProperties": dict(TAG, minLength=0),
                  "propertyNames": {"pattern": "^[A-Za-z_-][A-Za-z0-9_-]{0,63}$"},
                  "description": "attributes of elements, and the values they have to have"},
        "near": dict(FILLED, description="the column of the row's vector: pgvector's, an array, or JSON"),
        "min_similarity": {"anyOf": [{"type": "number", "minimum": -1, "maximum": 1},
                                     {"type": "string", "pattern": r"^-?(?:0*(?:\.[0-9]+)?|0+\.?[0-9]*|0*1(?:\.0*)?)$", "minLength": 1}],
                           "description": "the cosine from which on an element is like the row"},
        "field": dict(FILLED, pattern="^[A-Za-z_][A-Za-z0-9_]{0,63}$", description="the vector field of the index; its only one when not set"),
        "limit": number(1, 1_000_000, "more elements than this overflow", default=10_000),
        "on_overflow": choice("clear: what passes 'where' goes, all of the index without it; stop: evictd ends", "clear", "stop", default="clear"),
        "keys": texts(key, "keys that go with an element", most=16),
    }, ["index"], anyOf=[{"required": ["where"]}, {"required": ["near"]}],
       dependentRequired={"near": ["min_similarity"], "min_similarity": ["near"], "field": ["near"], "limit": ["near"]})


def rule():
    scalar = {"type": ["string", "number", "boolean", "null"]}
    values = {"anyOf": [scalar, {"type": "array", "minItems": 1, "maxItems": 1000, "items": scalar}]}
    bound = {"type": ["number", "string"], "minLength": 1}
    comparisons = {"type": "object", "minProperties": 1, "additionalProperties": False, "properties": {
        "gt": bound, "gte": bound, "lt": bound, "lte": bound, "not": values,
        "crosses": dict(bound, description="an update matches when the value changed sides")}}
    condition = {"anyOf": [*values["anyOf"], comparisons]}
    table = dict(TEXT, pattern=r'^(?:"(?:[^"]|"")+"|[^".]+)(?:\.(?:"(?:[^"]|"")+"|[^".]+))?$')
    return settings({
        "table": {"anyOf": [table, {"type": "array", "minItems": 1, "items": table}],
                  "description": "table or schema.table, or several; a name that holds a dot or a quote in double quotes"},
        "name": {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": 128, "pattern": r"^[^\u0000-\u001f]*$",
                 "description": "the rule's name in messages and metrics"},
        "on": texts({"enum": ["insert", "update", "delete", "truncate"]}, "the operations that matter; all when not set"),
        "keys": texts(KEY, "keys to delete", most=64),
        "tags": texts(TAG, "tags to delete: every key in the Redis set tag:<tag>", most=64),
        "bump": texts(KEY, "namespace counters to raise, once for each transaction", most=64),
        "surrogate_keys": texts(TAG, "names of responses at an edge (a CDN, Varnish), to be purged there", most=64),
        "semantic": {"type": "array", "minItems": 1, "maxItems": 64, "items": semantic(),
                     "description": "elements of indexes of vectors that a row makes stale (docs/semantic.md)"},
        "purge": texts(PURGE, "Redis patterns: any change of the table deletes every key that matches", most=64),
        "when_changed": texts(FILLED, "an update that touches none of these columns is ignored"),
        "ignore_changed": texts(FILLED, "an update that touches no column but these is ignored"),
        "where": {"type": "object", "minProperties": 1, "additionalProperties": condition, "description": "only rows that match"},
        "via": {"type": "object", "minProperties": 1, "maxProperties": 16, "propertyNames": {"minLength": 1},
                "description": "joined tables, whose columns keys and tags may name: join.column",
                "additionalProperties": settings({
                    "table": table,
                    "match": {"type": "object", "minProperties": 1, "maxProperties": 8, "additionalProperties": dict(FILLED, pattern=MATCHED),
                              "description": "its columns, and the column of the rule's table or join.column that each equals"},
                    "immutable": {"anyOf": [FILLED, {"type": "array", "uniqueItems": True, "items": FILLED}],
                                  "description": "a promise that no update changes these columns of it"},
                }, ["table", "match"])},
        "fan_out": number(1, 100_000, "with via: rows that one changed row may lead to", default=10_000),
        "on_overflow": choice("with via: what to do beyond fan_out", "purge", "stop", default="purge"),
        "immutable": texts(FILLED, "a promise that no update changes these columns"),
        **common(),
        "mode": choice("stale: the value stays for the grace, marked", "delete", "stale", default="delete"),
        "grace": duration(1, 24 * HOUR, "with mode: stale: how long a value may be served after its invalidation", default="30s"),
        "version": {"anyOf": [{"const": "snapshot"}, settings({"column": TEXT}, ["column"])],
                    "description": "what tells a new value from an old one"},
        "tags_mode": choice("lazy: a tag has no set, its marker alone makes values stale", "members", "lazy", default="members"),
        "announce": {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": 256,
                     "description": "a channel on which each invalidation is published"},
        "caches": texts(FILLED, "the caches it acts on; all when not set"),
        "audit": settings({
            "query": dict(FILLED, maxLength=16384, description="the value that should be cached: the key's columns, then the value; "
                          "$1, $2 ... are arrays of the key's columns; that of 'refresh' when not set"),
            "compare": described({"anyOf": [{"enum": ["text", "json"]}, {
                "type": "object", "minProperties": 1, "maxProperties": 64, "additionalProperties": FILLED,
                "propertyNames": {"pattern": r"^[^.]+(?:\.[^.]+){0,15}$"}}],
                "description": "how: bytes, JSON, or paths into the cached JSON with their columns"}, "text"),
        }, [], "how evictd audit compares values with the database", null=False),
        "refresh": settings({
            "query": dict(FILLED, maxLength=16384, description="the value to be stored: the key's columns, then the value, perhaps 'tags' and 'lazy_tags'; "
                          "$1, $2 ... are arrays of the key's columns"),
            "ttl": duration(1000, 8760 * HOUR, "how long a value lives"),
            "jitter": number(0, 100, "percent by which a value's life is shortened, at random", default=10),
            "per_second": number(1, 100_000, "keys that the database is asked for at most", default=500),
            "stream": {"type": ["string", "number", "boolean"], "minLength": 1, "maxLength": 256, "pattern": r"^(?!evictd:(?!refresh))",
                       "description": "instead: each key is added to this stream, for the application's workers"},
            "maxlen": number(1, 100_000_000, "about how many entries the stream keeps", default=100_000),
        }, what="keys that a delete hit are filled anew", null=False, anyOf=[{"required": ["query", "ttl"]}, {"required": ["stream"]}]),
    }, ["table"], anyOf=[{"required": [one]} for one in ("keys", "tags", "bump", "purge", "surrogate_keys", "semantic")],
       dependentRequired={}, dependentSchemas={"audit": {"anyOf": [
           {"properties": {"audit": {"required": ["query"]}}},
           {"required": ["refresh"], "properties": {"refresh": {"required": ["query"]}}}]}})


RULES = {"type": "array", "minItems": 1, "maxItems": 1000, "items": {"$ref": "#/$defs/rule"}}
RULES_FILE = settings({"defaults": settings(common(), what="what every rule of the file has unless it says otherwise"),
                       "rules": {"$ref": "#/$defs/rules"}}, ["rules"])


def definitions():
    one = rule()
    del one["dependentRequired"]
    return {"rule": one, "rules": RULES, "rules_file": RULES_FILE}


def rules_schema():
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "evictd: rules",
            "description": "Which cache keys and tags each changed row touches.",
            "anyOf": [{"$ref": "#/$defs/rules_file"}, {"$ref": "#/$defs/rules"}], "$defs": definitions()}


def credential(prefix=""):
    return {
        prefix + "password_file": dict(FILLED, description="read at every connect: the password on one line, or {\"password\", \"expires\"}"),
        prefix + "password_command": {"type": "array", "items": TEXT, "minItems": 1,
                             "description": "a program and its arguments, run at every connect without a shell; prints what a password_file holds"},
    }


NOT_BOTH = {"not": {"required": ["password_file", "password_command"]}}


def park_after():
    return {"anyOf": [{"const": "never"}, settings({
        "age": duration(SECOND, 7 * 24 * HOUR, "of the oldest unacknowledged change"),
        "wal": size(16 << 20, 1 << 50, "that PostgreSQL keeps"),
    }, null=False, minProperties=1)], "description": "when a cache that is away no longer holds the database up; it is purged when it returns"}


def redis(more=None):
    return settings({
        **(more or {}),
        "url": dict(FILLED, description="redis://user:password@host:port/db, rediss:// for TLS, unix://; host:port,host:port for some nodes of a cluster"),
        **credential(),
        "sentinels": texts({"type": ["string", "number", "boolean"], "pattern": HOST_PORT}, "host:port of each Sentinel; the host of 'url' is the master's name then"),
        "sentinel_password": dict(FILLED, description="of the Sentinels"),
        "tombstone_ttl": duration(SECOND, 24 * HOUR, "how long a late reader's checked fill is refused", default="60s"),
        "timeout": duration(100, 5 * MINUTE, "a reply that takes longer ends the connection", default="5s"),
        "replicas_ack": number(1, 100, "so many replicas have to have what was done before it is acknowledged (WAIT)"),
        "replicas_timeout": duration(100, 5 * MINUTE, "until replicas that have not are told of", default="1s"),
        "tls": settings({"ca": TEXT, "cert": TEXT, "key": TEXT}, what="files; cert and key go together",
                        dependentRequired={"cert": ["key"], "key": ["cert"]}),
    }, ["url"], "the cache", dependentRequired={"sentinel_password": ["sentinels"], "replicas_timeout": ["replicas_ack"]}, **NOT_BOTH)


def caches():
    base = dict(FILLED, description="where the API is, without a path")
    common_edge = {
        "rate": settings({"requests": number(1, 10_000, "so many"), "per": duration(SECOND, HOUR, "in this time", default="1s"),
                          "burst": number(1, 100_000, "so many at once")}, ["requests"], "requests that may leave"),
        "ca": dict(TEXT, description="a file of authorities, instead of the system's"),
        "timeout": duration(100, 5 * MINUTE, "an answer that takes longer is none", default="10s"),
    }
    token = dict(FILLED, description="a credential that may purge")
    soft = dict(YES_OR_NO, description="what is purged may be served while it is fetched anew")
    name = dict(WORD, pattern="^[A-Za-z0-9_-]{1,100}$")
    edges = {
        "fastly": settings({"service": name, "token": token, "soft": soft, "url": base, **common_edge}, ["service", "token"]),
        "cloudflare": settings({"zone": name, "token": token, "url": base,
                                "plan": choice("whose rate of purges holds", "free", "pro", "business", "enterprise",
                                               default="free"), **common_edge}, ["zone", "token"]),
        "varnish": settings({"url": dict(FILLED, description="http://host:port/"), "header": name,
                             "method": choice("PURGE with keys, or BAN with a pattern of them", "PURGE", "BAN", default="PURGE"),
                             "soft": soft, "token": token, "header_max": size(256, 1 << 20, "of the keys in one request"),
                             **common_edge}, ["url"]),
        "http": settings({"url": FILLED, "method": name, "headers": {"type": ["object", "null"], "additionalProperties": FILLED},
                          "body": FILLED, "batch": number(1, 1000, "keys of one request", default=1), "separator": FILLED,
                          "expect": TEXT, "purge_all": settings({"url": FILLED, "method": name, "body": FILLED}, ["url"]),
                          **common_edge}, ["url"]),
    }
    # Where an entry is an edge.
    only_edges = {
        "origin_time": duration(0, 10 * MINUTE, "how long a response may take from its last read of a cache until the edge has it", default="1s"),
        "on_gap": {"anyOf": [{"enum": ["all", "ignore"]}, settings({"keys": texts(TEXT, "surrogate keys", most=100)}, ["keys"])],
                   "description": "what is purged when it is not known which keys"},
    }
    one = settings({
        "redis": redis(), **edges, **only_edges,
        "after": texts(TEXT, "the caches that this one is filled from", least=0),
        "park_after": park_after(),
    }, oneOf=[{"required": [kind]} for kind in ("redis", *edges)],
       dependentSchemas={each: {"not": {"required": ["redis"]}} for each in only_edges}, null=False)
    return {"type": "object", "minProperties": 1, "maxProperties": 16, "propertyNames": {"pattern": "^[A-Za-z0-9_-]{1,40}$"},
            "additionalProperties": one, "description": "several caches by their names, instead of 'redis'"}


def postgres():
    return settings({
        "url": dict(FILLED, description="libpq URI or keywords, to the server itself: poolers do not carry replication"),
        **credential(),
        "slot": dict(WORD, pattern="^[a-z0-9_]{1,63}$", description="created when absent", default="evictd"),
        "publication": {"type": ["string", "number", "boolean"], "minLength": 1, "pattern": NO_URL, "description": "created when absent", "default": "evictd"},
        "heartbeat": described({"anyOf": [{"const": "off"}, duration(SECOND, HOUR, "")],
                                "description": "how often evictd sends itself a message through the stream"}, "10s"),
        "shutdown_grace": duration(0, 10 * MINUTE, "how long a server that wants to stop waits for us", default="5s"),
        "client_encoding": choice("SQL_ASCII for a database of that encoding", "UTF8", "SQL_ASCII", default="UTF8"),
        "on_first_start": choice("purge: drop once what was cached before evictd watched", "keep", "purge", default="keep"),
    }, ["url"], "the database whose changes are followed", **NOT_BOTH)


def kafka():
    return settings({
        "brokers": dict(FILLED, description="host:port, several with commas"),
        "group": dict(FILLED, default="evictd", description="the consumer group"),
        "topics": texts(FILLED, "names, or regular expressions that begin with ^"),
        "properties": {"type": ["object", "null"], "additionalProperties": FILLED, "description": "librdkafka's own"},
        "on_first_start": choice("where to begin", "keep", "purge", default="keep"),
        "on_snapshot": choice("what to do with rows of a Debezium snapshot", "ignore", "invalidate", default="ignore"),
        "on_poison": choice("what to do with a record that cannot be read", "purge", "stop", "skip", default="purge"),
        "dead_letter_file": TEXT,
        "dead_letter_max": size(64 * 1024, 1 << 30, "the size of that file", default="16MiB"),
        "revoke_drain": duration(0, MINUTE, "how long a revoked partition's work may take to finish", default="5s"),
        "connect_url": TEXT,
        "registry": settings({
            "url": dict(FILLED, description="of the Confluent-compatible interface; Apicurio's is at /apis/ccompat/v7"),
            "user": TEXT,
            "password": FILLED,
            **credential(),
            "ca": dict(TEXT, description="a file; else the system's authorities"),
            "id": described({"enum": ["auto", "4", "8", 4, 8],
                             "description": "how many bytes the id of a schema has"}, "auto"),
        }, ["url"], "the schema registry, for events in Avro",
            **{"not": {"anyOf": [{"required": list(pair)} for pair in (
                ("password", "password_file"), ("password", "password_command"), ("password_file", "password_command"))]}}),
        "postgres_url": dict(FILLED, description="the source database, asked which transactions are visible"),
        **credential("postgres_"),
    }, ["brokers", "topics"], "Debezium's events as the source, instead of postgres",
        dependentRequired={name: ["postgres_url"] for name in credential("postgres_")}, **{"not": {"required": list(credential("postgres_"))}})


def config_schema():
    listen = rf"^(?:off|(?:[^:]*|\[.*\]):{up_to(65535)})$"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "evictd: configuration",
            **settings({
                "postgres": postgres(), "kafka": kafka(), "redis": redis({"park_after": park_after()}), "caches": caches(),
                "http": settings({"listen": dict(text(listen, ""), **{"description": "host:port, or off", "default": "127.0.0.1:9464"}),
                                  "show_keys": dict(YES_OR_NO, description="the status page tells the last decisions about a key", default=False)}),
                "log": settings({"level": choice("what is logged", "debug", "info", "warning", "error", default="info"),
                                 "format": choice("json: one object per line", "text", "json", default="text")}),
                "audit": settings({"rate": text(r"^0*(?:[1-9][0-9]{0,2}|1000)/s$", "questions per second that the audit asks the database at most")},
                                  ["rate"], "the cache is compared with the database while evictd runs"),
                "limits": settings({"inflight": size(1 << 20, 4 << 30, "what evictd holds before it stops reading", default="24MiB")}),
                "rules": {"anyOf": [dict(FILLED, pattern=NO_URL), {"$ref": "#/$defs/rules"}, {"$ref": "#/$defs/rules_file"}],
                          "description": "a file relative to this one, or the rules themselves"},
            }, ["rules"], null=False),
            "allOf": [{"oneOf": [{"required": ["postgres"]}, {"required": ["kafka"]}]},
                      {"oneOf": [{"required": ["redis"]}, {"required": ["caches"]}]}], "$defs": definitions()}


def is_plain(schema):
    """Of values that are no list and no map."""
    if "anyOf" in schema:
        return all(is_plain(one) for one in schema["anyOf"])
    if "type" not in schema:
        return "enum" in schema or "const" in schema
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return not {"object", "array"} & set(types)


def with_variables(schema):
    """A variable may stand for every plain value, whatever that has to be."""
    if is_plain(schema):
        if jsonschema.Draft202012Validator(schema).is_valid("${X}"):
            return schema
        plain = {name: value for name, value in schema.items() if name not in ("description", "default")}
        return {"anyOf": [*(plain["anyOf"] if list(plain) == ["anyOf"] else [plain]), VARIABLE],
                **{name: value for name, value in schema.items() if name not in plain}}
    made = dict(schema)
    for name in ("properties", "$defs"):
        if name in schema:
            made[name] = {key: with_variables(value) for key, value in schema[name].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            made[name] = with_variables(schema[name])
    if "anyOf" in schema and "type" not in schema:
        made["anyOf"] = [with_variables(one) for one in schema["anyOf"]]
    return made


SCHEMAS = {"rules.schema.json": rules_schema, "evictd.schema.json": config_schema}


def as_text(name):
    return json.dumps(with_variables(SCHEMAS[name]()), indent=2) + "\n"


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    for file_name in SCHEMAS:
        with open(os.path.join(FOLDER, file_name), "w", encoding="utf-8") as file:
            file.write(as_text(file_name))
