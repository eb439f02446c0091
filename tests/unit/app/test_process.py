"""The built evictd where the system around it gives it little: a log that nobody reads, descriptors that are used up or closed, a
full disk, a terminal that goes, a database that hangs."""

import fcntl
import os
import resource
import signal
import socket
import subprocess
import time

import pytest

from harness.proxy import Proxy
from harness.waiting import eventually, stays

RULES = "rules:\n  - {table: products, keys: [\"product:{id}\"]}\n"


def change_is_followed(postgres, cache):
    cache.set("product:1", "old")
    postgres.execute("update products set price_cents = price_cents + 1 where id = 1")
    eventually("the key is gone", lambda: cache.get("product:1") is None)


def test_a_log_that_nobody_reads_stops_nothing(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=RULES)
    os.mkfifo(evictd.log)
    reader = os.open(evictd.log, os.O_RDONLY | os.O_NONBLOCK)
    filler = os.open(evictd.log, os.O_WRONLY | os.O_NONBLOCK)
    fcntl.fcntl(filler, fcntl.F_SETPIPE_SZ, 4096)
    try:
        while True:
            os.write(filler, b"x" * 512)
    except BlockingIOError:
        pass
    evictd.start(ready=False)
    eventually("evictd is ready", evictd.is_ready)
    change_is_followed(postgres, cache)
    os.close(filler)
    assert evictd.stop() == 0
    os.close(reader)
    os.replace(evictd.log, evictd.log + ".fifo")
    with open(evictd.log, "w", encoding="utf-8"):
        pass  # whoever shows the log of a failed test must not wait for the pipe


def test_descriptors_that_are_used_up_are_failed_tries(postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=RULES).start()
    idle = [socket.create_connection(("127.0.0.1", evictd.port)) for _ in range(40)]
    open_now = len(os.listdir(f"/proc/{evictd.process.pid}/fd"))
    before = resource.prlimit(evictd.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(evictd.process.pid, resource.RLIMIT_NOFILE, (4, before[1]))
    cache.client_kill_filter(_type="normal", skipme=True)
    eventually("the loss is seen", lambda: not evictd.is_ready())
    spent = evictd.cpu_seconds()
    stays("evictd runs", evictd.is_running, 3)
    assert evictd.cpu_seconds() - spent < 1.5, "it spins"
    assert open_now > 4
    resource.prlimit(evictd.process.pid, resource.RLIMIT_NOFILE, before)
    eventually("evictd is ready again", evictd.is_ready)
    change_is_followed(postgres, cache)
    for one in idle:
        one.close()
    assert evictd.stop() == 0


# Without signals it could not be asked to stop.
@pytest.mark.parametrize("files", [4, 5])
def test_no_descriptor_for_signals_is_a_failed_start(make_evictd, files):
    evictd = make_evictd(rules=RULES)
    ended = subprocess.run(["bash", "-c", f"ulimit -n {files}; exec {evictd.program} run -c {evictd.config}"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "no descriptor to begin with: Too many open files" in ended.stderr and "hint: let evictd open more files" in ended.stderr


SOMEBODY = "setpriv --reuid=54321 --regid=54321 --clear-groups"


# Of files the configuration needs one, the port two; the port has a thread. The rights of root would pass the limit of threads.
@pytest.mark.parametrize("user, limit, lacks", [("", "--nofile=6:", "let evictd open more files"), ("", "--nofile=8:", "let evictd open more files"),
                                                (SOMEBODY, "--nproc=1:", "let evictd have more threads")])
def test_what_is_used_up_at_the_start_is_waited_for(postgres, redis, cache, make_evictd, folder, user, limit, lacks):
    if user and os.geteuid() != 0:
        pytest.skip("only root can become a user of no other process")
    evictd = make_evictd(rules=RULES)
    os.chmod(folder, 0o755)
    script = f"{folder}/limited"
    with open(script, "w", encoding="utf-8") as file:
        # At its end the address sanitizer looks for leaks by a thread.
        file.write(f'#!/bin/bash\nexport ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0"\nexec prlimit {limit} {user} {evictd.program} "$@"\n')
    os.chmod(script, 0o755)
    evictd.program = script
    evictd.start(ready=False)
    eventually("it says what it lacks", lambda: "evictd tries each second to begin: " in evictd.log_text() and lacks in evictd.log_text())
    assert evictd.stop() == 0, "and can be asked to stop meanwhile"
    evictd.start(ready=False)
    eventually("it has begun once more", lambda: evictd.log_text().count(lacks) == 2)
    subprocess.run([*user.split(), "prlimit", f"--pid={evictd.process.pid}", f"{limit.split('=')[0]}=1024:"], check=True)
    evictd.wait_until_ready()
    change_is_followed(postgres, cache)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_printed_to_a_closed_descriptor_goes_into_no_connection(closed, postgres, redis, cache, make_evictd):
    """The next thing that is opened has the number of what was closed: here the connection to PostgreSQL."""
    evictd = make_evictd(rules=RULES)
    explain = f"exec {evictd.program} explain --from-table products --limit 1000 -c {evictd.config} {closed}"
    done = subprocess.run(["sh", "-c", explain], capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    with open(postgres.log, encoding="utf-8", errors="replace") as log:
        assert "frontend message" not in log.read()


CASES = "- {table: products, new: {id: 1}, keys: ['product:1']}\n"


@pytest.mark.parametrize("command", ["man", "--help", "--version", "completion bash", "lua", "lua --scripts", "check --sql", "check --acl", "check --offline --json",
                                     "rules test CASES", "explain --table products --op delete --old {\"id\":1}",
                                     "explain --from-table products --limit 1000", "check --json"])
def test_an_answer_that_does_not_fit_on_the_disk_is_a_failure(command, postgres, redis, cache, make_evictd, folder):
    evictd = make_evictd(rules=RULES)
    cases = os.path.join(folder, "cases.yaml")
    with open(cases, "w", encoding="utf-8") as file:
        file.write(CASES)
    words = [cases if word == "CASES" else word for word in command.split()]
    if words[0] not in ("man", "--help", "--version", "completion"):
        words += ["-c", evictd.config]

    def ends(output):
        done = subprocess.run([evictd.program, *words], stdout=output, stderr=subprocess.PIPE, text=True, check=False, timeout=30)
        return done.returncode, done.stderr

    with open("/dev/null", "wb") as nowhere:
        assert ends(nowhere)[0] == 0
    with open("/dev/full", "wb") as full:
        code, said = ends(full)
    assert code == 1 and said.count("cannot write") == 1, (code, said)
    if command in ("--version", "explain --table products --op delete --old {\"id\":1}"):  # refused at the end: the reason is still known
        assert said == "cannot write all of the answer to standard output: No space left on device\n", said
    # Whoever reads it has seen enough: "| head".
    reader, writer = os.pipe()
    os.close(reader)
    code, said = ends(writer)
    os.close(writer)
    assert "cannot write" not in said, said


def fill_products(postgres, cache):
    token = postgres.value("select pg_current_snapshot()::text")
    for number in range(1, 101):
        name = postgres.value("select name from products where id = %s", (number,)) or "x"
        assert cache.fcall("evictd_fill", 2, f"product:{number}", f"evictd:{{product:{number}}}", token, 600_000, name) == 1


CHECKED = """
- {table: public.products, name: products, keys: ['product:{id}'], fill: checked,
   refresh: {query: 'select id, name from products where id = any($1)', ttl: 10m}}
"""


def start(evictd, *arguments, ignored=()):
    def ignore():
        for one in ignored:
            signal.signal(one, signal.SIG_IGN)

    return subprocess.Popen([evictd.program, *arguments, "-c", evictd.config], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=ignore)


@pytest.mark.parametrize("command", [("watch",), ("audit", "--for", "60s", "--rate", "5")], ids=lambda command: command[0])
def test_a_command_ends_with_its_terminal(command, postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=CHECKED).start()
    fill_products(postgres, cache)
    for ignored in ((), (signal.SIGHUP,)):  # nohup
        running = start(evictd, *command, ignored=ignored)
        eventually("it is connected", lambda: postgres.value(
            "select count(*) from pg_replication_slots where temporary" if command[0] == "watch" else
            "select count(*) from pg_stat_activity where application_name = 'evictd audit'") > 0)
        running.send_signal(signal.SIGHUP)
        if ignored:
            stays("it goes on", lambda: running.poll() is None, 2)
            running.send_signal(signal.SIGTERM)
        running.wait(timeout=10)
        said = running.communicate()[1]
        assert running.returncode == 0 or "no key of these rules was found" in said, (running.returncode, said)  # it had just begun
        eventually("its slot is gone", lambda: postgres.value("select count(*) from pg_replication_slots where temporary") == 0)
    assert evictd.is_running()


@pytest.mark.parametrize("command", [("warm", "--rule", "products", "--rate", "20"), ("audit", "--for", "60s", "--rate", "20")],
                         ids=lambda command: command[0])
def test_whoever_ends_a_command_does_not_wait_for_a_database_that_hangs(command, postgres, redis, cache, make_evictd):
    evictd = make_evictd(rules=CHECKED).start()
    if command[0] == "audit":
        fill_products(postgres, cache)
    proxy = Proxy(postgres.port)
    try:
        far = make_evictd(rules=CHECKED, postgres_url=postgres.url(port=proxy.port))
        running = start(far, *command)
        eventually("it asks", lambda: postgres.value(
            "select count(*) from pg_stat_activity where application_name like %s",
            ("evictd refresh%" if command[0] == "warm" else "evictd audit%",)) > 0)
        time.sleep(1)
        proxy.tell("hole")
        time.sleep(1)
        assert running.poll() is None, running.communicate()
        begin = time.monotonic()
        running.send_signal(signal.SIGTERM)
        running.wait(timeout=60)
        assert time.monotonic() - begin < 4
        said = running.communicate()[1]
        assert "stopped" in said, said
    finally:
        proxy.stop()
    assert evictd.is_running()
