"""The schemas of deploy/schema/ against the parsers: what one accepts the other accepts, and what one refuses the
other refuses, but for what no schema can tell. Tried with every text in the tests of the parsers, every YAML file and
block of the tree, and every setting with values at and around its bounds."""

import glob
import json
import os
import re
import subprocess

import jsonschema
import pytest
import schemas
import yaml

from harness.daemon import ROOT, binary

# What the parser says of things that lie beyond a schema: each is a reason, never a setting by its name.
BEYOND = [
    # The text of the file itself: an editor's YAML support says the same, or nobody does.
    r"duplicate setting|not valid YAML|anchors|alias|tags are not|several documents|one document|control character|given twice|nested|UTF-8|NUL|byte order",
    # Bytes, where a schema counts characters; sums over several settings.
    r"expected (?:one line of )?1 to \d+ bytes|expected at most \d+ bytes|expected at most \d+ keys, tags|expected at most \d+ placeholders",
    # Two places compared.
    r"another rule has the name|has the same marker as|readers fill a value in one way|the column '.*'$|does not use the column|is not a rediss:// URL|has no effect|exclude one another|would act on no update ever|"
    r"cannot be kept complete|is a join: expected|no join has the name|steps are a circle|begins at two tables|'ignore_changed' names",
    r"'settle': expected more than 0ms|needs 'fill: (?:checked|plain)'|needs 'engine: search'|expected one '\.\*'",  # `fill` may come from `defaults`
    r"'url' has a user too|'(?:postgres_)?url' has a password too|a password is set, and no 'user'",
    # How a number was written is gone once YAML has read it.
    r"got '(?:\+1|0x10|1e3)'",
    r"the same Redis and database as|which is no cache|stands behind itself|stands behind no Redis",
    # The keys of the rule beside the query.
    r"expected a rule with one key|'query': expected \d+ parameters?",
    # Another language inside a text.
    r"'url': |'postgres_url': ",
    r"placeholders are not supported in a pattern",
]


class Loader(yaml.SafeLoader):
    """YAML 1.2's core schema, as editors read it: `on` and dates are texts."""


Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
        ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"), ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
        ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
        ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""])):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))
# Numbers of YAML 1.1 (0o17, 1:30) are none here.
Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value, 0) if node.value[:2] in ("0x", "0o") else int(node.value))
Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value))


def construct_map(loader, node):
    """Names are texts as they are written, whatever YAML takes them for."""
    if any(not isinstance(name, yaml.ScalarNode) for name, _ in node.value):
        raise yaml.YAMLError("a name that is no text")
    return {name.value: loader.construct_object(value, deep=True) for name, value in node.value}


Loader.add_constructor("tag:yaml.org,2002:map", construct_map)


def literals(source):
    """The string literals of a C++ source, adjacent ones joined."""
    token = re.compile(r'//[^\n]*|R"(\w*)\((.*?)\)\1"|"((?:[^"\\\n]|\\.)*)"|\'(?:[^\'\\]|\\.)+\'|(\S)', re.S)
    current = None
    for match in token.finditer(source):
        if match[2] is not None or match[3] is not None:
            piece = match[2] if match[2] is not None else match[3].encode("latin-1", "backslashreplace").decode("unicode_escape")
            if match[3] is not None:
                piece = piece.encode("latin-1", "ignore").decode("utf-8", "replace") if not piece.isascii() else piece
            current = piece if current is None else current + piece
        elif match[4] is not None and current is not None:
            yield current
            current = None


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


RULES_BASE = "- {table: a, keys: ['a:{id}']}\n"
CONFIG_BASES = (
    "postgres:\n  url: postgresql://localhost/shop\n  %s\nredis: {url: redis://localhost}\nrules: rules.yaml\n",
    "postgres: {url: postgresql://localhost/shop}\nredis:\n  url: redis://localhost\n  %s\nrules: rules.yaml\n",
    "postgres: {url: postgresql://localhost/shop}\nredis: {url: redis://localhost}\nrules: rules.yaml\n%s\n",
    "kafka:\n  brokers: a:9092\n  topics: [t]\n  %s\nredis: {url: redis://localhost}\nrules: rules.yaml\n",
)
CACHES_BASE = "postgres: {url: postgresql://localhost/shop}\ncaches: {%s}\nrules: rules.yaml\n"


def documents_of_the_tests():
    for path in glob.glob(f"{ROOT}/tests/unit/mapping/*.cpp") + glob.glob(f"{ROOT}/tests/unit/app/*.cpp"):
        for text in literals(read(path)):
            yield text
            if "\n" not in text.strip() and ":" in text and len(text) < 300:
                for base in CONFIG_BASES:
                    yield base % text


def documents_of_the_tree():
    for pattern in ("deploy/**/*.yaml", "tests/fuzz/corpus/rules/*", "tests/**/*.yaml"):
        for path in glob.glob(f"{ROOT}/{pattern}", recursive=True):
            with open(path, "rb") as file:
                yield file.read().decode("utf-8", "replace")
    for path in [f"{ROOT}/README.md", *glob.glob(f"{ROOT}/docs/*.md")]:
        yield from re.findall(r"^```yaml\n(.*?)^```", read(path), re.S | re.M)
    for path in glob.glob(f"{ROOT}/tests/**/*.py", recursive=True):
        yield from re.findall(r'"""\n?(.*?)"""', read(path), re.S)


VALUES = ["", "~", "true", "false", "'true'", "0", "1", "'1'", "-1", "1.5", "text", "'two words'", "[]", "{}", "[a]", "[a, a]", "[a, b]", "[1, '1']",
          "{a: 1}", "off", "'off'", "never", "0ms", "1ms", "99ms", "100ms", "999ms", "1s", "59s", "60s", "1m", "5m", "301s", "10m", "601s", "59m", "60m", "61m", "1h", "2h",
          "24h", "25h", "0s", "00001s", "1 s", "1S", "1d", "3600s", "3601s", "3600000ms", "3600001ms", "86400s", "86401s", "9999999999999999999s",
          "0B", "1B", "64KiB", "63KiB", "65536B", "65535B", "1MiB", "1048575B", "1GiB", "2GiB", "4GiB", "5GiB", "4096MiB", "4097MiB", "1KB", "16MiB",
          "1000000000", "1000000001", "999999999", "'0'", "'007'", "0x10", "+1", "1e3", "plain", "checked", "purge", "stop", "ignore", "insert",
          "[insert]", "[insert, update]", "[Insert]", "delete", "stale", "snapshot", "{column: v}", "{column: ''}", "{colum: v}", "{column: [v]}", "members",
          "lazy", "public.a", "a.b.c", "'\"a.b\"'", "'a.\"b\"'", ".a", "'a\"'", "{id: 1}", "{id: [1, ~]}", "{id: []}", "{id: {a: 1}}", "{id: ~}", "'a:{id}'", "{b: {table: b, match: {id: x}}}", "{b: {table: b, match: {id: b.x.y}}}", "{b: {table: b, match: {}}}",
          "['a:{id}', b]", "'{id}'", "'{id'", "'id}'", "'{{id}}'", "'a{{{id}}}'", "'a:{id|lower}'", "'a:{id|lowr}'", "'a:{id|date}'", "\"a:{id|date('%Y')}\"",
          "\"a:{id|date('%Q')}\"", "\"a:{id|date('')}\"", "\"a:{id|default('x')}\"", "\"a:{id|default('')}\"", "\"a:{id|lower('x')}\"", "'a:{id|default}'",
          "'a:{a.b.c}'", "'a:{a..b}'", "'a:{ a . b }'", "'a:{\"x y\".z}'", "'a:{\"\"}'", "'a:{}'", "'a:{é}'", "'é:{id}'", "':{id}'", "'-'", "'*'", "'a:{id|}'", "'a:{id|md5|sha1}'",
          "'a:{a b}'", "'a:{labels.*}'", "':9464'", "'[::1]:1'", "'::1:1'", "'h:65535'", "'h:65536'", "'h:'", "h:1", "info", "debug", "warn", "json", "UTF8", "SQL_ASCII",
          "keep", "skip", "invalidate", "'${X}'", "evictd_1", "Evictd", "a-b", "a" * 63, "a" * 64, "{ca: a}", "{cert: a}", "{cert: a, key: b}", "{}"]


def documents_of_settings():
    rule = list(schemas.rule()["properties"])
    for setting in rule:
        for value in VALUES:
            rest = {"table": "table: a", "keys": "keys: ['a:{id}']"}
            rest.pop(setting, None)
            fields = ", ".join(rest.values())
            yield f"- {{{fields}, {setting}: {value}}}\n"
            yield f"- {{{fields}, {setting}: {value}, fill: checked}}\n" if setting != "fill" else RULES_BASE
            if setting in schemas.common():
                yield f"defaults: {{{setting}: {value}}}\nrules: [{{table: a, keys: ['a:{{id}}']}}]\n"
    for base, section in zip(CONFIG_BASES, (schemas.postgres(), schemas.redis(), schemas.config_schema(), schemas.kafka())):
        for setting in section["properties"]:
            for value in VALUES:
                without = re.sub(rf"  {setting}: .*\n", "", base) if f"  {setting}: " in base else base
                yield without % f"{setting}: {value}"
    cache = schemas.caches()["additionalProperties"]["properties"]
    for value in VALUES:
        for setting in cache:
            first = "" if setting == "redis" else "redis: {url: redis://localhost}, "
            yield CACHES_BASE % f"eu: {{{first}{setting}: {value}}}, us: {{redis: {{url: redis://localhost}}}}"
        for setting in ("age", "wal"):
            yield CACHES_BASE % f"eu: {{redis: {{url: redis://localhost}}, park_after: {{{setting}: {value}}}}}"
        yield CACHES_BASE % f"{value}: {{redis: {{url: redis://localhost}}}}"
    for section in ("http", "log", "limits"):
        for setting in schemas.config_schema()["properties"][section]["properties"]:
            for value in VALUES:
                yield CONFIG_BASES[2] % f"{section}: {{{setting}: {value}}}"


def verdicts(documents, variables=None):
    """[(rules, config)] of the parsers, with these variables in their environment."""
    done = subprocess.run([binary("yaml_verdicts")], input="\0".join(documents).encode("utf-8", "replace"), stdout=subprocess.PIPE, check=True,
                          env=os.environ | (variables or {}))
    lines = [line.split("\t") for line in done.stdout.decode("utf-8", "replace").splitlines()]
    assert len(lines) == len(documents)
    return lines


@pytest.mark.parametrize("name", sorted(schemas.SCHEMAS))
def test_the_file_is_the_one_that_is_tested(name):
    assert read(f"{ROOT}/deploy/schema/{name}") == schemas.as_text(name), "tests/documents/schemas.py writes it anew"
    jsonschema.Draft202012Validator.check_schema(json.loads(read(f"{ROOT}/deploy/schema/{name}")))


@pytest.mark.parametrize("which, name", enumerate(("rules.schema.json", "evictd.schema.json")))
def test_schema_and_parser_agree(which, name):
    documents = sorted({text.replace("\0", "") for make in (documents_of_the_tests, documents_of_the_tree, documents_of_settings)
                        for text in make() if text.strip()})
    validator = jsonschema.Draft202012Validator(json.loads(read(f"{ROOT}/deploy/schema/{name}")))
    accepted = refused = 0
    wrong = []
    for text, said in zip(documents, verdicts(documents)):
        verdict = said[which]
        try:
            value = yaml.load(text, Loader)
        except (yaml.YAMLError, ValueError, TypeError, RecursionError):
            continue
        fits = validator.is_valid(value)
        if verdict == "ok":
            accepted += 1
            if not fits:
                error = next(validator.iter_errors(value))
                wrong.append(f"the parser accepts, the schema refuses ({error.message[:150]}):\n{text}")
        else:
            beyond = any(re.search(pattern, verdict) for pattern in BEYOND)
            refused += not beyond
            if fits and not beyond and "${" not in text:
                wrong.append(f"the parser refuses ({verdict}), the schema accepts:\n{text}")
    print(f"{name}: {accepted} accepted, {refused} refused, by both")
    assert not wrong, f"{len(wrong)} of {len(documents)}:\n" + "\n".join(wrong[:40])
    # The comparison is worth nothing when it compares nothing.
    assert accepted > 300 and refused > 300


def scalars(node, path=()):
    """(path, node) of each value that is no list and no map."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from scalars(value, (*path, name.value))
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from scalars(item, (*path, "[]"))
    else:
        yield path, node


def with_variables(documents, accepted):
    """(document, variables): of each setting that a parser accepts, once with each type of its value, the same with a variable in its place."""
    seen = set()
    for text, is_accepted in zip(documents, accepted):
        if not is_accepted or "${" in text:
            continue
        for path, node in scalars(yaml.compose(text, Loader)):
            kind = (path, node.tag)
            if kind in seen or node.tag.endswith(":null") or "\n" in node.value:
                continue
            seen.add(kind)
            name = f"V{len(seen)}"
            yield text[:node.start_mark.index] + f"'${{{name}}}'" + text[node.end_mark.index:], {name: node.value}


@pytest.mark.parametrize("which, name", enumerate(("rules.schema.json", "evictd.schema.json")))
def test_a_variable_may_stand_for_every_value(which, name):
    """The environment has it when evictd starts; the schema cannot see it."""
    documents = sorted({text for text in documents_of_settings() if "\0" not in text})
    made = list(with_variables(documents, [said[which] == "ok" for said in verdicts(documents)]))
    texts, variables = [text for text, _ in made], {}
    for _, one in made:
        variables.update(one)
    validator = jsonschema.Draft202012Validator(json.loads(read(f"{ROOT}/deploy/schema/{name}")))
    said = [one[which] for one in verdicts(texts, variables)]
    wrong = [text for text, verdict in zip(texts, said) if verdict == "ok" and not validator.is_valid(yaml.load(text, Loader))]
    assert not wrong, f"{len(wrong)} of {len(texts)}: the parser takes a variable there, the schema does not:\n" + "\n".join(wrong)
    assert said.count("ok") > len(said) * 0.9, "\n".join(f"{verdict}:\n{text}" for text, verdict in zip(texts, said) if verdict != "ok")


def test_the_exceptions_are_used():
    """A reason that no document gives any more is taken off the list."""
    documents = sorted({text.replace("\0", "") for make in (documents_of_the_tests, documents_of_settings) for text in make() if text.strip()})
    said = "\n".join("\n".join(pair) for pair in verdicts(documents))
    assert [pattern for pattern in BEYOND if not re.search(pattern, said)] == []
