"""Answers cached by meaning: what was made from a row goes when the row changes, in vector sets and in RediSearch."""

import math
import os
import random
import re

import pytest

from harness import oracle, vectors
from harness.vectors import DIMENSIONS, direction
from harness.waiting import eventually, stays

TABLE = """
drop table if exists documents;
create table documents (id int primary key, name text, tenant text, year int, embedding text);
alter table documents replica identity full;
"""
RULES = """
defaults: {{settle: 300ms}}
rules:
  - table: public.documents
    name: by-source
    semantic:
      - {{index: "llm:answers", engine: {engine}, where: {{source: "doc:{{id}}"}}, keys: ["text:{{element}}"]}}
  - table: public.documents
    name: by-likeness
    when_changed: [embedding]
    semantic:
      - index: "llm:answers"
        engine: {engine}
        near: embedding
        min_similarity: 0.9
        where: {{tenant: "{{tenant}}"}}
        limit: 50
        keys: ["text:{{element}}"]
"""
BY_NAME = """
defaults: {{settle: 20ms}}
rules:
  - table: public.documents
    keys: ["document:{{id}}"]
    semantic:
      - {{index: "llm:answers", engine: {engine}, where: {{source: "{{name}}"}}, keys: ["text:{{element}}"]}}
"""
ENGINES = ("vset", "search")


@pytest.fixture
def make_server(folder):
    made = []

    def make(engine):
        vectors.need(engine)
        server = vectors.VectorServer(engine, f"{folder}/vectors{len(made)}")
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.stop()


def text_of(vector):
    return "[" + ",".join(f"{number:.6g}" for number in vector) + "]"


def total(evictd, what):
    return evictd.metrics().get("evictd_semantic_total", cache="redis", what=what) or 0


@pytest.mark.parametrize("engine", ENGINES)
def test_answers_made_from_a_row_go_and_no_others(engine, postgres, make_server, make_evictd):
    server = make_server(engine)
    answers = vectors.Answers(engine, server.client()).create()
    postgres.execute(TABLE)
    for tenant in ("a", "b"):
        for number in range(4):
            # In the plane of the tenant's first document, 0, 10, 20 and 30 degrees from it.
            answers.add(f"{tenant}{number}", direction(math.radians(10 * number)), tenant=tenant, source="doc:9", year=2000 + number)
        answers.add(f"{tenant}-far", direction(0, plane=1), tenant=tenant, source="doc:9")
    answers.add("from17", direction(0, plane=2), tenant="c", source="doc:17")
    answers.add("from170", direction(0, plane=2), tenant="c", source="doc:170")
    everything = answers.elements()
    evictd = make_evictd(rules=RULES.format(engine=engine), redis_url=server.url())
    evictd.start()
    assert answers.elements() == everything, "a first start keeps what is there"

    # By attribute.
    postgres.execute("insert into documents values (17, 'seventeen', 'nobody', 2000, %s)", (text_of(direction(1, plane=3)),))
    gone = {"from17"}
    eventually("the answer made from document 17 went", lambda: answers.elements() == everything - gone)

    # By similarity to the new vector, and to the old one, of one tenant alone: cos 25 degrees is 0.906, cos 30 is 0.866.
    postgres.execute("insert into documents values (1, 'one', 'a', 2000, %s)", (text_of(direction(math.radians(-2))),))
    gone |= {"a0", "a1", "a2"}
    eventually("what is like the new row went, of its tenant", lambda: answers.elements() == everything - gone)
    answers.add("a0", direction(0), tenant="a", source="doc:9")
    postgres.execute("update documents set embedding = %s where id = 1", (text_of(direction(0, plane=1)),))
    gone |= {"a-far"}
    eventually("what is like the old and the new vector went", lambda: answers.elements() == everything - gone)

    # A slow reader puts one back after the first delete, and before the second.
    answers.add("from17", direction(0, plane=2), tenant="c", source="doc:17")
    postgres.execute("update documents set name = 'again' where id = 17")
    eventually("it went", lambda: "from17" not in answers.elements(), every=0.005)
    answers.add("from17", direction(0, plane=2), tenant="c", source="doc:17")
    eventually("the second delete took what came in between", lambda: answers.elements() == everything - gone)
    stays("nothing else goes", lambda: answers.elements() == everything - gone, 0.5)

    # Nothing to compare with: all of the row's tenant, and nobody else's.
    postgres.execute("insert into documents values (2, 'two', 'a', 2000, null)")
    gone |= {"a3"}
    eventually("without a vector the tenant's answers go", lambda: answers.elements() == everything - gone)
    assert evictd.metrics().get("evictd_unmappable_changes_total", rule="by-likeness", reason="no_vector") >= 1
    postgres.execute("insert into documents values (3, 'three', 'b', 2000, '[1,0,0]')")
    gone |= {name for name in everything if name.startswith("b")}
    eventually("a vector of another dimension clears the tenant's answers", lambda: answers.elements() == everything - gone)
    eventually("that is counted", lambda: total(evictd, "other_dimensions") >= 1)
    assert answers.elements() == {"from170"}

    # More than the limit.
    for number in range(60):
        answers.add(f"m{number}", direction(number / 1000), tenant="m", source="doc:9")
    answers.add("m-far", direction(0, plane=2), tenant="m", source="doc:9")
    postgres.execute("insert into documents values (4, 'four', 'm', 2000, %s)", (text_of(direction(0)),))
    eventually("beyond the limit the tenant's answers go", lambda: answers.elements() == {"from170"})
    eventually("that is counted", lambda: total(evictd, "over_limit") >= 1)

    postgres.execute("truncate documents")
    eventually("with the table all answers go", lambda: answers.elements() == set())
    if engine == "search":
        assert server.client().execute_command("FT.INFO", "llm:answers")


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_whose_vector_is_like_nothing_holds_nothing_up(engine, postgres, make_server, make_evictd):
    """An application embeds an empty text as zeros, and the engine gives its likeness as nan."""
    server = make_server(engine)
    answers = vectors.Answers(engine, server.client()).create()
    postgres.execute(TABLE)
    answers.add("near", direction(0), tenant="a", source="doc:9")
    answers.add("far", direction(0, plane=1), tenant="a", source="doc:9")
    answers.add("zeros", [0.0] * DIMENSIONS, tenant="a", source="doc:9")
    evictd = make_evictd(rules=RULES.format(engine=engine), redis_url=server.url()).start()
    # Without a condition that a filter can hold, all of the index is compared.
    for number, tenant in enumerate(("a", "" if engine == "search" else "a")):
        answers.add("near", direction(0), tenant="a", source="doc:9")
        postgres.execute("insert into documents values (%s, 'one', %s, 2000, %s)", (number, tenant, text_of(direction(0))))
        eventually("what is like the row went", lambda: "near" not in answers.elements())
        oracle.wait_until_acknowledged(postgres, "evictd")
        assert "far" in answers.elements()
    assert evictd.is_ready()


@pytest.mark.parametrize("engine", ENGINES)
def test_kills_lose_no_answer_that_has_to_go(engine, seed, postgres, make_server, make_evictd):
    server = make_server(engine)
    answers = vectors.Answers(engine, server.client()).create()
    postgres.execute(TABLE)
    documents = 40
    for number in range(documents):
        postgres.execute("insert into documents values (%s, 'n', 't', 2000, %s)", (number, text_of(direction(number, plane=number % 4))))
    evictd = make_evictd(rules=RULES.format(engine=engine).replace("limit: 50", "limit: 1000"), redis_url=server.url())
    evictd.start()
    chance = random.Random(seed)
    changed = set()
    for round_number in range(4):
        for number in range(documents):
            for copy in range(3):
                answers.add(f"d{number}-{copy}", direction(number, plane=number % 4), tenant="other", source=f"doc:{number}")
        wanted = {chance.randrange(documents) for _ in range(15)}
        for number in wanted:
            postgres.execute("update documents set name = name || 'x' where id = %s", (number,))
        changed |= wanted
        if round_number < 3:
            evictd.kill()
            evictd.start()

        def has(numbers):
            there = answers.elements()
            return [name for number in numbers for copy in range(3) if (name := f"d{number}-{copy}") in there]

        eventually("answers of changed documents are gone", lambda: not has(wanted))
        # Those of documents that were changed in an earlier round may go once more: it is sent again after a kill.
        untouched = set(range(documents)) - changed
        eventually("it settled", lambda: not evictd.metrics().sum("evictd_inflight_transactions"))
        assert len(has(untouched)) == 3 * len(untouched) and not has(wanted)


# What may end a literal, a tag, a query or a string of C, alone and together.
HOSTILE = [",", " , ,", '"', "'", "\\", "\\\\", '"\'', '\\"', "x\\", '" or 1 == 1 or "', "' or 1 == 1 or '", "} @source:{*", "*", "a,b", " a ", "a|b", "(", ")", "[1 2]",
           "{", "$x", "@tenant:{a}", "=>[KNN 5 @embedding $v]", "-a", "~a", "%a%", "a;b", "a\nb", "a\tb", "é", "日本", "\x1f", "\x1e\x1b", "true", "false",
           "null", "12", "1.50", "-0", "1e3", ".source", "not", "and or in", "`", "/", "\x7f", "a b  c", "\u2028", "and\"", "it's", 'say "hi"']


def can_be_written(engine, value):
    """Whether the engine's language has a literal for the value; its index has none of what is but separators and white space."""
    if engine == "search":
        return not re.search(r"[\x00-\x08\x0e-\x1f\x7f]", value) and value.strip(" \t\r\n\v\f,") != ""
    return any(re.fullmatch(rf"(?:[^{quote}\\]|\\.)*", value, re.S) for quote in "\"'")


@pytest.mark.parametrize("engine", ENGINES)
def test_hostile_values_name_themselves_and_nothing_else(engine, seed, postgres, make_server, make_evictd):
    chance = random.Random(seed)
    values = list(HOSTILE)
    alphabet = ['"', "'", "\\", "a", "b", " ", ",", "|", "{", "}", "(", ")", "*", "@", ":", "$", "-", "=", ">", "[", "]", "1", "é", "\n", "\x1f"]
    many = 400 if os.environ.get("EVICTD_SOAK") == "1" else 10
    values += ["".join(chance.choices(alphabet, k=chance.randrange(1, 12))) for _ in range(many)]
    values = sorted({value for value in values if value.strip()})
    server = make_server(engine)
    answers = vectors.Answers(engine, server.client()).create(separator=",")
    postgres.execute(TABLE)
    evictd = make_evictd(rules=BY_NAME.format(engine=engine), redis_url=server.url())
    evictd.start()
    chance.shuffle(values)
    # Those that cannot be written take everything, twice: last, so that they take nothing that another is judged by.
    values.sort(key=lambda value: not can_be_written(engine, value))
    for number, value in enumerate(values):
        answers.add("bystander", direction(1), source="bystander", tenant="t")
        answers.add("hit", direction(0), source=value, tenant="t")
        postgres.execute("insert into documents values (%s, %s, 't', 0, null)", (number, value))
        eventually(f"the answer with {value!r} went", lambda: "hit" not in answers.elements(), every=0.005)
        if can_be_written(engine, value):
            assert "bystander" in answers.elements(), f"{value!r} took more than its own"
    assert sum(can_be_written(engine, value) for value in values) > len(values) / 2
    eventually("everything settled", lambda: "hit" not in answers.elements())


def test_an_index_that_cannot_be_asked_is_told_and_waited_for(postgres, make_server, make_evictd):
    server = make_server("search")
    client = server.client()
    answers = vectors.Answers("search", client)
    answers.add("one", direction(0), source="first", tenant="t")
    postgres.execute(TABLE)
    client.set("document:1", "cached")
    evictd = make_evictd(rules=BY_NAME.format(engine="search"), redis_url=server.url())
    evictd.start()
    postgres.execute("insert into documents values (1, 'first', 't', 0, null)")
    eventually("keys go all the same", lambda: client.get("document:1") is None)
    eventually("not ready, and why", lambda: "there is no index 'llm:answers'" in evictd.http("/readyz")[1])
    answers.create()
    eventually("the answer went once the index was there", lambda: answers.elements() == set())
    evictd.wait_until_ready()


def test_a_server_without_vector_sets_is_told(postgres, redis, make_evictd):
    if b"vadd" in [name.lower() for name in redis.client().execute_command("COMMAND LIST")]:
        pytest.skip("this server has vector sets")
    evictd = make_evictd(rules=BY_NAME.format(engine="vset"))
    postgres.execute(TABLE)
    evictd.start()
    postgres.execute("insert into documents values (1, 'first', 't', 0, null)")
    eventually("not ready, and why", lambda: "this server has no vector sets" in evictd.http("/readyz")[1])


def test_the_second_search_of_a_graph_looks_further_than_the_first(postgres, make_server, make_evictd):
    """A search of a graph may miss what is there; for the second one nobody waits."""
    server = make_server("vset")
    client = server.client()
    shuffled = random.Random(1)
    with client.pipeline(transaction=False) as pipe:
        for element in range(10_001):  # up to 10,000 all are compared
            vector = [shuffled.gauss(0, 1) for _ in range(DIMENSIONS)]
            pipe.execute_command("VADD", "llm:answers", "FP32", vectors.floats(vector), f"other{element}", "EF", "10")
        pipe.execute_command("VADD", "llm:answers", "FP32", vectors.floats(direction(0)), "near")
        pipe.execute()
    client.config_set("slowlog-max-len", 1000)
    client.config_set("slowlog-log-slower-than", 0)
    postgres.execute(TABLE)
    rules = '- {table: public.documents, settle: 300ms, semantic: [{index: "llm:answers", near: embedding, min_similarity: 0.99, limit: 1000}]}\n'
    evictd = make_evictd(rules=rules, redis_url=server.url()).start()
    postgres.execute("insert into documents (id, embedding) values (1, %s)", (text_of(direction(0)),))

    def efforts():
        searches = [entry["command"].split(b" EF ") for entry in reversed(client.slowlog_get(1000)) if entry["command"].startswith(b"VSIM")]
        return [int(search[1]) for search in searches if len(search) == 2]

    eventually("both searches were made", lambda: total(evictd, "searches") >= 2 and len(efforts()) >= 2)
    assert efforts()[0] < efforts()[-1], efforts()
    assert client.execute_command("VSIM", "llm:answers", "FP32", vectors.floats(direction(0)), "COUNT", "1", "TRUTH") != [b"near"]


def test_a_hash_of_evictds_own_name_neither_goes_nor_ends_the_search(postgres, make_server, make_evictd):
    """What is beyond the first page, in which it lies, goes all the same."""
    server = make_server("search")
    client = server.client()
    client.execute_command("FT.CREATE", "llm:answers", "ON", "HASH", "PREFIX", "2", "doc:", "evictd:", "SCHEMA", "embedding", "VECTOR", "HNSW", "6",
                           "TYPE", "FLOAT32", "DIM", str(DIMENSIONS), "DISTANCE_METRIC", "COSINE")
    client.hset("evictd:mine", mapping={"embedding": vectors.floats(direction(0))})
    for number in range(300):
        client.hset(f"doc:{number}", mapping={"embedding": vectors.floats(direction(0.1 + number / 10_000))})
    postgres.execute(TABLE)
    rules = ('- {table: public.documents, settle: 300ms, '
             'semantic: [{index: "llm:answers", engine: search, near: embedding, min_similarity: 0.9, limit: 1000}]}\n')
    make_evictd(rules=rules, redis_url=server.url()).start()
    postgres.execute("insert into documents (id, embedding) values (1, %s)", (text_of(direction(0)),))
    eventually("the answers went", lambda: next(client.scan_iter(match="doc:*", count=1000), None) is None)
    assert client.exists("evictd:mine")
