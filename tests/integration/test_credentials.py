"""Passwords that rotate: both servers change theirs every second, and end sessions, while rows change."""

import json
import os
import time

import pytest
from harness import oracle, shop
from harness.fixtures import soak
from harness.waiting import eventually


def write(path, text):
    """Whole or not at all."""
    with open(path + ".next", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".next", path)


class Rotation:
    def __init__(self, postgres, redis, folder):
        self.postgres, self.redis = postgres, redis.client()
        self.postgres_file, self.redis_file = f"{folder}/postgres.password", f"{folder}/redis.password"
        self.passwords = []
        postgres.execute("create role rotating superuser login replication")
        hba = os.path.join(postgres.data, "pg_hba.conf")
        with open(hba, encoding="utf-8") as file:
            rest = file.read()
        with open(hba, "w", encoding="utf-8") as file:
            file.write("host all rotating 127.0.0.1/32 scram-sha-256\n" + rest)
        postgres.execute("select pg_reload_conf()")
        self.rotate()

    def rotate(self, of_files=True):
        """The servers first, as most who rotate do: for a moment the files are wrong."""
        password = f"secret-{len(self.passwords)}-{os.urandom(4).hex()}"
        self.passwords.append(password)
        self.postgres.execute(f"alter role rotating password '{password}'")
        self.redis.execute_command("ACL", "SETUSER", "rotating", "on", "resetpass", f">{password}", "~*", "&*", "+@all")
        if of_files:
            write(self.postgres_file, password + "\n")
            write(self.redis_file, json.dumps({"password": password, "expires": time.time() + 1.5}))

    def end_sessions(self):
        self.postgres.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotating'")
        self.redis.execute_command("CLIENT", "KILL", "USER", "rotating")

    def auth_calls(self):
        return self.redis.info("commandstats")["cmdstat_auth"]["calls"]

    def assert_never_shown(self, *texts):
        for text in texts:
            assert [password for password in self.passwords if password in text] == []


@pytest.fixture
def rotation(postgres, redis, folder):
    return Rotation(postgres, redis, folder)


@pytest.fixture
def evictd(rotation, postgres, redis, make_evictd):
    return make_evictd(postgres_url=postgres.url(user="rotating"), redis_url=f"redis://rotating@127.0.0.1:{redis.port}/0",
                       postgres_more=f"password_command: [cat, {rotation.postgres_file}]",
                       redis_more=f"password_file: {rotation.redis_file}")


def test_passwords_that_change_every_second_cost_nothing(postgres, redis, cache, rotation, evictd, seed):
    evictd.start()
    running = shop.Shop(postgres, redis.client, seed, writers=2, readers=2).start()
    before = rotation.auth_calls()
    for number in range(60 if soak() else 8):
        time.sleep(1)  # the pace of the rotation
        rotation.rotate()
        if number % 4 == 1:
            rotation.end_sessions()
    running.stop()
    oracle.converge(postgres, evictd)
    oracle.assert_true_cache(postgres, cache)
    assert rotation.auth_calls() - before >= 4, "signs in again on the open connection"
    rotation.assert_never_shown(evictd.log_text(), json.dumps(evictd.status()), evictd.metrics().text)


def test_a_credential_that_fails_is_named_and_never_shown(rotation, evictd):
    evictd.start()
    rotation.rotate(of_files=False)
    checked = evictd.command("check")
    assert checked.returncode != 0
    assert "password_command 'cat'" in checked.stdout + checked.stderr
    assert f"password_file '{rotation.redis_file}'" in checked.stdout + checked.stderr
    rotation.end_sessions()
    eventually("both are named", lambda: "password_command 'cat'" in evictd.log_text()
               and f"password_file '{rotation.redis_file}'" in evictd.log_text(), 30)
    assert evictd.is_running(), "it may just have changed: tried again"
    rotation.assert_never_shown(checked.stdout, checked.stderr, evictd.log_text())
    rotation.rotate()
    evictd.wait_until_ready()


AUDITED = """- {table: public.products, name: products, keys: ['product:{id}'], fill: checked,
   audit: {query: "select id, row_to_json(p)::text from products p where id = any($1)", compare: text},
   refresh: {query: "select id, row_to_json(p)::text from products p where id = any($1)", ttl: 1h}}
"""


def test_every_command_that_asks_the_database_signs_in_as_the_daemon_does(rotation, postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=AUDITED, postgres_url=postgres.url(user="rotating"), redis_url=f"redis://rotating@127.0.0.1:{redis.port}/0",
                         postgres_more=f"password_file: {rotation.postgres_file}", redis_more=f"password_file: {rotation.redis_file}",
                         more="audit: {rate: 20/s}").start()
    warmed = evictd.command("warm", "--rule", "products")
    assert warmed.returncode == 0 and "filled" in warmed.stdout, warmed.stderr
    audited = evictd.command("audit", "--json")
    counts = json.loads(audited.stdout.strip().splitlines()[-1])
    assert audited.returncode == 0 and counts["fresh"] > 0 and counts["unreadable"] == 0, audited.stdout + audited.stderr
    explained = evictd.command("explain", "--from-table", "products", "--where", "id = 1")
    assert explained.returncode == 0 and "product:1" in explained.stdout, explained.stderr
    purged = evictd.command("purge", "--table", "products", "--where", "id = 1")
    assert purged.returncode == 0 and not cache.exists("product:1"), purged.stderr
    checked = evictd.command("check")
    assert "password" not in checked.stdout, checked.stdout
    eventually("the daemon's own audit is at work", lambda: evictd.metrics().get("evictd_audit_active") == 1, 30)
