"""How each language's client libraries are fetched, and how its driver is started with a recipe: see
drivers/README.md. The packages of docs/recipes/ are here beside the short recipes. What cannot be fetched is ServerMissing, with the reason."""

import fcntl
import functools
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
from harness import process
from harness.servers import ServerMissing

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DRIVERS = f"{ROOT}/tests/readers/drivers"
LIBRARIES = os.environ.get("EVICTD_READER_LIBRARIES", f"{ROOT}/build/readers")

# What makes a token of the SELECT's snapshot; a broken recipe has something else here.
TOKEN = "pg_current_snapshot()::text"


def run(*command, folder=None, env=None):
    """A step of fetching or building."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=240,
                              cwd=folder, env=None if env is None else {**os.environ, **env})
    except FileNotFoundError:
        raise ServerMissing(f"no {command[0]} on the PATH") from None
    except subprocess.TimeoutExpired:
        raise ServerMissing(f"{' '.join(command[:3])} took longer than 240 s") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ServerMissing(f"{' '.join(command[:3])} failed: {''.join(last)}")


def fetched(name, manifest, fetch):
    """The folder of a language's libraries; `fetch(folder)` fills it when `manifest` is not what it was filled from. Tests that
    run beside each other share it: the first one fetches."""
    folder = f"{LIBRARIES}/{name}"
    mark = f"{folder}/complete"
    os.makedirs(LIBRARIES, exist_ok=True)
    with open(f"{DRIVERS}/{name}/{manifest}", "rb") as file:
        wanted = hashlib.sha256(file.read()).hexdigest()
    with open(f"{folder}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(mark) and open(mark, encoding="ascii").read() == wanted:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        shutil.copy(f"{DRIVERS}/{name}/{manifest}", folder)
        fetch(folder)
        with open(mark, "w", encoding="ascii") as file:
            file.write(wanted)
    return folder


class Python:
    recipe = "cache_aside.py"
    driver = "driver.py"

    def fetch(self):
        def fill(folder):
            run(sys.executable, "-m", "venv", f"{folder}/venv")
            run(f"{folder}/venv/bin/pip", "install", "-q", "-r", f"{folder}/requirements.txt")

        self.libraries = fetched("python", "requirements.txt", fill)

    def build(self, folder):
        shutil.copy(f"{DRIVERS}/python/{self.driver}", folder)
        return [f"{self.libraries}/venv/bin/python", f"{folder}/{self.driver}"]


class PythonPackage:
    """docs/recipes/python, installed by pip; with the library that the variant names."""
    recipe = "python"
    token_in = "evictd_reader/snapshots.py"

    def __init__(self, variant):
        self.environment = {"VARIANT": variant}

    def fetch(self):
        def fill(folder):
            run(sys.executable, "-m", "venv", f"{folder}/venv")
            run(f"{folder}/venv/bin/pip", "install", "-q", "-r", f"{folder}/requirements.txt")

        self.libraries = fetched("python_package", "requirements.txt", fill)

    def build(self, folder):
        run(f"{self.libraries}/venv/bin/pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", f"{folder}/installed",
            f"{folder}/{self.recipe}")
        shutil.copy(f"{DRIVERS}/python_package/driver.py", f"{folder}/installed")
        return [f"{self.libraries}/venv/bin/python", f"{folder}/installed/driver.py"]


class Node:
    recipe = "cache_aside.mjs"
    driver = "driver.mjs"

    def fetch(self):
        self.libraries = fetched("node", "package.json", lambda folder: run(
            "npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", folder=folder))

    def build(self, folder):
        shutil.copy(f"{DRIVERS}/node/{self.driver}", folder)
        os.symlink(f"{self.libraries}/node_modules", f"{folder}/node_modules")
        return ["node", f"{folder}/{self.driver}"]


class NodePackage:
    """docs/recipes/node, installed by npm; with the client that the variant names."""
    recipe = "node"
    token_in = "lib/snapshots.mjs"

    def __init__(self, variant):
        self.environment = {"VARIANT": variant}

    def fetch(self):
        self.libraries = fetched("node_package", "package.json", lambda folder: run(
            "npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", folder=folder))

    def build(self, folder):
        # As `npm install <folder>` does it, but from what was fetched: older npm ask the registry for each name again.
        shutil.copytree(self.libraries, f"{folder}/installed", symlinks=True)
        run("npm", "pack", "--silent", "--offline", "--pack-destination", folder, folder=f"{folder}/{self.recipe}")
        place = f"{folder}/installed/node_modules/evictd-reader"
        os.makedirs(place)
        run("tar", "xzf", *glob.glob(f"{folder}/evictd-reader-*.tgz"), "--strip-components=1", "-C", place)
        shutil.copy(f"{DRIVERS}/node_package/driver.mjs", f"{folder}/installed")
        return ["node", f"{folder}/installed/driver.mjs"]


class Go:
    recipe = "cache_aside.go"
    driver = "main.go"

    def fetch(self):
        def fill(folder):
            os.makedirs(f"{folder}/recipes")
            shutil.copy(f"{DRIVERS}/go/{self.driver}", folder)
            shutil.copy(f"{ROOT}/docs/recipes/{self.recipe}", f"{folder}/recipes")
            # Pinned by go.mod; this adds the sums of what they rest on.
            run("go", "mod", "tidy", folder=folder, env={"GOTOOLCHAIN": "local"})

        self.libraries = fetched("go", "go.mod", fill)

    def build(self, folder):
        for name in ("go.mod", "go.sum"):
            shutil.copy(f"{self.libraries}/{name}", folder)
        shutil.copy(f"{DRIVERS}/go/{self.driver}", folder)
        os.makedirs(f"{folder}/recipes")
        shutil.move(f"{folder}/{self.recipe}", f"{folder}/recipes")
        run("go", "build", "-o", f"{folder}/driver", ".", folder=folder, env={"GOTOOLCHAIN": "local"})
        return [f"{folder}/driver"]


class Java:
    recipe = "CacheAside.java"
    driver = "Driver"

    def fetch(self):
        self.libraries = fetched("java", "pom.xml", lambda folder: run(
            "mvn", "-q", "-B", "-f", f"{folder}/pom.xml", "dependency:copy-dependencies",
            f"-DoutputDirectory={folder}/jars"))

    def build(self, folder):
        shutil.copy(f"{DRIVERS}/java/{self.driver}.java", folder)
        jars = ":".join(glob.glob(f"{self.libraries}/jars/*.jar"))
        run("javac", "-cp", jars, "-d", folder, f"{folder}/{self.driver}.java", f"{folder}/{self.recipe}")
        return ["java", "-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{folder}:{jars}", self.driver]


class Php:
    """Debian's packages: php-cli, php-redis, php-pgsql."""
    recipe = "cache_aside.php"
    driver = "driver.php"

    def fetch(self):
        run("php", "-r", "exit(extension_loaded('redis') && extension_loaded('pdo_pgsql') ? 0 : 1);")

    def build(self, folder):
        shutil.copy(f"{DRIVERS}/php/{self.driver}", folder)
        return ["php", f"{folder}/{self.driver}"]


def of_rows(language, recipe, driver):
    """The same language with its recipe for values that are made from many rows."""
    return type(f"{language.__name__}Rows", (language,), {"recipe": recipe, "driver": driver})


ROWS = {
    "python-rows": of_rows(Python, "row_tags.py", "rows.py"), "node-rows": of_rows(Node, "row_tags.mjs", "rows.mjs"),
    "go-rows": of_rows(Go, "row_tags.go", "rows/main.go"), "java-rows": of_rows(Java, "RowTags.java", "Rows"),
    "php-rows": of_rows(Php, "row_tags.php", "rows.php"),
}
LANGUAGES = {"python": Python, "node": Node, "go": Go, "java": Java, "php": Php}

# The same scenarios for the packages. Each has a name of its own, for ctest.
PACKAGES = {
    **{f"python-{variant}": functools.partial(PythonPackage, variant)
       for variant in ("psycopg", "async", "sqlalchemy", "django", "django-get-set")},
    **{f"node-{variant}": functools.partial(NodePackage, variant) for variant in ("pool", "prefix")},
}


def language_or_skip(name):
    """Fetched; a skip with its reason where that is not possible: Debian alone does not bring every language."""
    one = {**LANGUAGES, **ROWS, **PACKAGES}[name]()
    one.name = name
    try:
        one.fetch()
    except ServerMissing as reason:
        pytest.skip(f"the {name} recipe is not run: {reason}")
    return one


def recipe_text(name):
    with open(f"{ROOT}/docs/recipes/{name}", encoding="utf-8") as file:
        return file.read()


def with_token(path, token):
    """Puts another token into the one place where a recipe takes its own."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert text.count(TOKEN) == 1, f"{path} must take its token once, as {TOKEN}"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(TOKEN, token))


class Built:
    """A language's driver with a recipe's text, ready to be started several times."""

    def __init__(self, language, folder, token=TOKEN):
        os.makedirs(folder)
        source = f"{ROOT}/docs/recipes/{language.recipe}"
        if os.path.isdir(source):
            shutil.copytree(source, f"{folder}/{language.recipe}", ignore=shutil.ignore_patterns("__pycache__", "node_modules", "*.egg-info"))
            with_token(f"{folder}/{language.recipe}/{language.token_in}", token)
        else:
            shutil.copy(source, folder)
            with_token(f"{folder}/{language.recipe}", token)
        self.folder = folder
        self.environment = getattr(language, "environment", {})
        self.command = language.build(folder)


class Driver:
    """A running driver: one application process that reads through its recipe."""

    def __init__(self, built, postgres, redis, more=None):
        self.log = f"{built.folder}/driver.log"
        environment = {**os.environ, "REDIS_PORT": str(redis.port), "POSTGRES_URL": postgres.url(),
                       "JDBC_URL": f"jdbc:postgresql://127.0.0.1:{postgres.port}/shop?user=postgres",
                       **built.environment, **(more or {})}
        self.process = process.start(built.command, log=self.log, env=environment, cwd=built.folder, pipe=True)

    def ask(self, key):
        """Sends a key; answer() takes its value. Apart, so that several drivers can work at once."""
        self.process.stdin.write(key.encode() + b"\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, f"the driver ended:\n{self._tail()}"
        return json.loads(line)

    def read(self, key):
        self.ask(key)
        return self.answer()

    def stop(self):
        process.end(self.process)

    def _tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-15:])


def run_program(language, program, folder, environment):
    """A program of a package's driver folder, where the package is installed -> what it printed."""
    built = Built(language, folder)
    home = f"{built.folder}/installed"
    shutil.copy(f"{DRIVERS}/{os.path.basename(language.libraries)}/{program}", home)
    done = subprocess.run([built.command[0], f"{home}/{program}"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          timeout=120, cwd=home, env={**os.environ, **environment})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def run_cases(package, program, database, redis, folder):
    """A program that asserts case by case."""
    language = language_or_skip(package)
    database.execute("create table if not exists notes (id int primary key, body text);"
                     "insert into notes values (1, 'old') on conflict do nothing")
    said = run_program(language, program, f"{folder}/cases", {
        "REDIS_PORT": str(redis.port), "POSTGRES_URL": database.url(), "README": f"{ROOT}/docs/recipes/{language.recipe}/README.md"})
    assert said.splitlines()[-1] == "all cases hold", said
