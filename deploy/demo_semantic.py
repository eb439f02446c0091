"""The demo of a semantic cache; started by demo.sh --semantic. The vectors are made by hand: what each question is about."""

import math
import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until perform() knows better: Ctrl-C ends it without a word

import os
import sys
import time

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{ROOT}/tests")
os.environ.setdefault("EVICTD_BINARY_DIR", f"{ROOT}/build/release")

from demo_stage import perform, say, title  # noqa: E402
from harness import daemon, servers, vectors  # noqa: E402
from harness.waiting import eventually  # noqa: E402

TOPICS = ("returns", "money", "shipping", "days", "warranty", "size", "colour", "people")
INDEX = "llm:answers"
RULES = """
- table: public.documents
  name: answers made from the document
  semantic:
    - {index: "llm:answers", where: {source: "doc:{id}"}, keys: ["llm:answer:{element}"]}
- table: public.documents
  name: answers to what the document is about
  semantic:
    - index: "llm:answers"
      near: embedding
      min_similarity: 0.8
      where: {shop: "{shop}"}
      keys: ["llm:answer:{element}"]
"""
QUESTIONS = (  # element, shop, what was asked, the answer, from which document, what it is about
    ("q1", "books", "How long may I take to return a book?", "30 days.", 1, {"returns": 3, "days": 2}),
    ("q2", "books", "Can I send it back after two weeks?", "Yes, within 30 days.", 1, {"returns": 3, "days": 1.5, "shipping": 1}),
    ("q3", "books", "What does shipping cost?", "4 euros.", 2, {"shipping": 3, "money": 2}),
    ("q4", "books", "Who wrote the shop's software?", "A small team.", 3, {"people": 3}),
    ("q5", "shoes", "How long may I take to return shoes?", "60 days.", 9, {"returns": 3, "days": 2}),
)


def vector(about):
    plain = [float(about.get(topic, 0)) for topic in TOPICS]
    length = math.sqrt(sum(number * number for number in plain))
    return [number / length for number in plain]


def text(about):
    return "[" + ",".join(f"{number:.4f}" for number in vector(about)) + "]"


def show(cache):
    for element, shop, question, _, source, _ in QUESTIONS:
        value = cache.get(f"llm:answer:{element}")
        say(f"  {element}  {shop:6} {question:42} {value.decode() if value else '(gone: the model is asked again)'}")
        has = cache.execute_command("VISMEMBER", INDEX, element)
        if bool(has) != bool(value):
            raise AssertionError(f"{element} is in the index and not in the cache, or the other way round")


def change(cache, cursor, statement, parameters, gone):
    say(f"  psql>  {cursor.mogrify(statement, parameters).decode()[:110]}")
    cursor.execute(statement, parameters)
    begin = time.monotonic()
    eventually("the answers are gone", lambda: not any(cache.exists(f"llm:answer:{one}") for one in gone), 15, every=0.001)
    say(f"         {', '.join(gone)} gone {1000 * (time.monotonic() - begin):.1f} ms after the commit returned")
    show(cache)


def demo(folder, once):
    title("servers")
    postgres = servers.Postgres(f"{folder}/postgres").start()
    postgres.execute("create database shop", database="postgres")
    postgres.execute("create table documents (id int primary key, shop text, body text, embedding text);"
                     "alter table documents replica identity full")
    redis = vectors.VectorServer("vset", f"{folder}/redis").start()
    cache = redis.client()
    say(f"PostgreSQL  psql {postgres.url()}")
    say(f"Redis       redis-cli -p {redis.port}   ({cache.info('server')['redis_version']}, vector sets built in)")
    cursor = postgres.connect().cursor()
    cursor.execute("insert into documents values (1, 'books', 'Returns within 30 days.', %s), (2, 'books', 'Shipping: 4 euros.', %s)",
                   (text({"returns": 3, "days": 2}), text({"shipping": 3, "money": 2})))

    title("evictd, with two rules")
    say(RULES.strip())
    evictd = daemon.Evictd(folder + "/evictd", postgres.url(), redis.url(), RULES).start()

    title("five answers, cached by the meaning of their questions")
    for element, shop, question, answer, source, about in QUESTIONS:
        cache.set(f"llm:answer:{element}", answer)
        cache.execute_command("VADD", INDEX, "FP32", vectors.floats(vector(about)), element, "SETATTR",
                              f'{{"source": "doc:{source}", "shop": "{shop}"}}')
    show(cache)

    title("a document changes: the answers made from it go")
    change(cache, cursor, "update documents set body = %s where id = %s", ("Returns within 14 days.", 1), ("q1", "q2"))

    title("a new document, of which no answer was made: answers to what it is about go, in its own shop alone")
    change(cache, cursor, "insert into documents values (4, 'books', 'Shipping is free in June.', %s)",
           (text({"shipping": 3, "money": 1.5, "days": 0.5}),), ("q3",))
    left = [one[0] for one in QUESTIONS if cache.exists(f"llm:answer:{one[0]}")]
    if left != ["q4", "q5"]:
        raise AssertionError(f"left are {left}, expected q4 and q5")
    say("\nevery answer that is left is about something else, or another shop's")
    code = evictd.stop()
    if code != 0:
        raise AssertionError(f"evictd ended with exit code {code}, expected 0")
    if not once:
        say("Ctrl-C or Enter ends the demo")
        sys.stdin.readline()


if __name__ == "__main__":
    sys.exit(perform(demo))
