"""docs/tutorial.md, step by step: each block is run in one shell, and prints what stands below it."""

import os
import re
import signal
import subprocess

from harness import process, servers
from harness.daemon import ROOT, binary

SECONDS = 120  # for one block; the slowest takes three


def steps(text):
    """[(heading, kind, block)] in the order of the document."""
    heading = ""
    for match in re.finditer(r"^## ([^\n]*)$|^```(\w+)\n(.*?)^```$", text, re.S | re.M):
        if match[1]:
            heading = match[1]
        else:
            yield heading, match[2], match[3]


def test_the_tutorial_does_what_it_says():
    with open(f"{ROOT}/docs/tutorial.md", encoding="utf-8") as file:
        text = file.read()
    postgres = servers.Postgres(process.temporary_folder("evictd-tutorial-pg-")).start()
    cache = servers.Redis(process.temporary_folder("evictd-tutorial-redis-")).start()
    port = process.free_port()
    folder = process.temporary_folder("evictd-tutorial-")
    # The servers of the test are elsewhere than a reader's; nothing else is changed.
    text = text.replace("postgresql://localhost/shop", postgres.url()).replace("redis://localhost:6379/0", cache.url())
    text = text.replace("localhost:9464", f"127.0.0.1:{port}")
    environment = dict(os.environ, PGHOST="127.0.0.1", PGPORT=str(postgres.port), PGUSER="postgres", LC_ALL="C.UTF-8",
                       PATH=f"{os.path.dirname(binary())}:{postgres.programs}:{os.environ['PATH']}")
    all_steps = list(steps(text))
    assert len(all_steps) > 15
    script = [f"redis-cli() {{ command redis-cli -p {cache.port} \"$@\"; }}"]
    expected = []
    for number, (heading, kind, block) in enumerate(all_steps):
        if kind == "yaml":
            script.append(f"cat > evictd.yaml <<'END OF FILE'\nhttp: {{listen: '127.0.0.1:{port}'}}\n{block}END OF FILE")
        elif kind == "sh":
            after = all_steps[number + 1][1:] if number + 1 < len(all_steps) else ("", "")
            expected.append((heading, block, after[1] if after[0] == "text" else ""))
            script.append(f"{{ {block}}} 2>>errors\necho '--- end of a step'")
        else:
            assert kind == "text", f"unknown block: {kind}"
    shell = subprocess.Popen(["bash"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             start_new_session=True)
    try:
        output, _ = shell.communicate("\n".join(script) + "\n", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        output, _ = shell.communicate()
    finally:
        cache.stop()
        postgres.stop("immediate")
    printed = output.split("--- end of a step\n")
    with open(f"{folder}/errors", encoding="utf-8") as file:
        errors = file.read()
    for (heading, block, wanted), got in zip(expected, printed):
        assert got == wanted, f"'{heading}': expected\n{wanted}\ngot\n{got}\nof\n{block}\n{errors}"
    assert len(printed) == len(expected) + 1, f"it stopped after step {len(printed) - 1} of {len(expected)}:\n{errors}"
