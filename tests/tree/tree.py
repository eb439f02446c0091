"""The rules of the tree: each takes the files and yields what breaks it, as "path:line: what".

A file is a path from the root of the tree and its text, so that the rules themselves can be tested on small
trees that never existed.
"""

import os
import pathlib
import re

# What the tree holds besides its own files.
SKIPPED_FOLDERS = {".git", "build", "__pycache__", ".pytest_cache", "node_modules", ".cache"}
TEXT_SUFFIXES = {
    ".h", ".cpp", ".in", ".txt", ".cmake", ".json", ".md", ".py", ".sh", ".lua", ".pml", ".yaml", ".yml", ".service",
    ".sql", ".xml", ".js", ".mjs", ".go", ".java", ".php", "",
}


def read_tree(root):
    """Every text file below root: {path: text}."""
    files = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            path = pathlib.Path(folder, name)
            is_gits = name == ".git"  # of a linked work tree: a file
            if is_gits or path.suffix not in TEXT_SUFFIXES or "corpus" in path.parts:
                continue
            try:
                files[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue  # captured bytes
    return files


def lines_of(files, *suffixes, below=""):
    for path, text in files.items():
        if path.startswith(below) and path.endswith(suffixes):
            for number, line in enumerate(text.splitlines(), 1):
                yield path, number, line


INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')

# What a room may include besides itself.
BELOW = {
    "mapping/": (),
    "daemon/base/": ("mapping/",),
    "daemon/net/": ("mapping/", "daemon/base/"),
    "daemon/interface/": ("mapping/", "daemon/base/"),
    "daemon/flow/": ("mapping/", "daemon/base/", "daemon/interface/"),
    "daemon/sources/postgres/": ("mapping/", "daemon/base/", "daemon/net/", "daemon/interface/"),
    "daemon/sources/kafka/": ("mapping/", "daemon/base/", "daemon/net/", "daemon/interface/"),
    "daemon/sinks/redis/": ("mapping/", "daemon/base/", "daemon/net/", "daemon/interface/"),
    "daemon/audit/": ("mapping/", "daemon/base/", "daemon/net/", "daemon/interface/", "daemon/sources/postgres/",
                      "daemon/sinks/redis/"),
    "daemon/refresh/": ("mapping/", "daemon/base/", "daemon/net/", "daemon/interface/", "daemon/sources/postgres/",
                        "daemon/sinks/redis/"),
    "daemon/sinks/http/": ("mapping/", "daemon/base/", "daemon/net/", "daemon/interface/"),
    "daemon/app/": ("mapping/", "daemon/"),
}


def include_directions(files):
    """Each room includes those below it; what only `check` asks (doctor/) is included by nothing that runs."""
    for path, number, line in lines_of(files, ".h", ".cpp"):
        match = INCLUDE.match(line)
        if not match or not match[1]:
            continue
        included = match[1]
        if pathlib.PurePosixPath(included).stem == "main":
            yield f"{path}:{number}: nothing includes main"
        room = next((one for one in BELOW if path.startswith(one)), None)
        if room is None and path.startswith("daemon/"):
            yield f"{path}:{number}: is in no room"
        elif room and not included.startswith((room, *BELOW[room])):
            yield f"{path}:{number}: {room} may not include '{included}'"
        if room and room != "daemon/app/" and "/doctor/" in included and "/doctor/" not in path:
            yield f"{path}:{number}: what runs may not include '{included}'"
        if path.startswith("tests/unit/mapping/") and not included.startswith(("mapping/", "tests/unit/mapping/")):
            yield f"{path}:{number}: the tests of the mapping may not include '{included}'"


# Each library is known to few files, so that it can be replaced and so that builds stay fast.
LIBRARIES = {
    "yaml-cpp/": {"mapping/yaml.cpp"},
    "simdjson": {"mapping/json_path.cpp", "daemon/app/explain.cpp", "daemon/net/credential.cpp", "daemon/sources/kafka/json_level.cpp",
                "daemon/sinks/http/service.cpp", "daemon/sinks/http/doctor/check.cpp"},
    "openssl/": {"mapping/filters.cpp", "daemon/sinks/redis/scripts.cpp", "daemon/sinks/redis/transport.cpp",
                 "daemon/sources/postgres/stream_wire.cpp"},
    "prometheus/": {"daemon/app/metrics.cpp", "daemon/app/metrics_status.h"},
    "curl/": {"daemon/net/http_client.cpp"},
    "CLI/": {"daemon/app/command_line.cpp"},
    "hiredis/": set(),
    "libpq-fe": {"daemon/sources/postgres/connection.cpp", "daemon/sources/postgres/conninfo.cpp"},
    "librdkafka/": {"daemon/sources/kafka/librdkafka.h"},
}


def libraries(files):
    """A client library is included in the files that are named for it."""
    for path, number, line in lines_of(files, ".h", ".cpp"):
        match = INCLUDE.match(line)
        if not match or not match[2] or path.startswith("tests/"):
            continue
        for library, allowed in LIBRARIES.items():
            if match[2].startswith(library) and path not in allowed:
                yield f"{path}:{number}: '{match[2]}' belongs in {' or '.join(sorted(allowed))}"


def built_files(files):
    """Every .cpp is named in a CMake file: a test that is not built is decoration."""
    cmake = "\n".join(text for path, text in files.items() if path.endswith((".cmake", "CMakeLists.txt")))
    for path in files:
        if not path.endswith(".cpp"):
            continue
        name = pathlib.PurePosixPath(path).name
        if name.endswith("_fuzz.cpp"):
            if f"evictd_fuzz({name.removesuffix('_fuzz.cpp')} " not in cmake:
                yield f"{path}:1: no CMakeLists.txt calls evictd_fuzz() for it"
        elif not re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", cmake):
            yield f"{path}:1: no CMake file names it"


NAMED_FILE = re.compile(r"(?<![\w/.$-])((?:mapping|daemon|deploy|tests|docs|\.ci)/[\w./-]*[\w/]|[A-Z]+\.md|CMakePresets\.json)")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def named_files(files):
    """Files and folders that are named in *.md exist."""
    known = set(files)
    for path in files:
        known.update(parent.as_posix() for parent in pathlib.PurePosixPath(path).parents)
    for path, number, line in lines_of(files, ".md"):
        for match in NAMED_FILE.finditer(line):
            # A pattern, not a name: "tests/unit/*", "docs/recipes/<language>".
            if match.end() < len(line) and line[match.end()] in "*<{":
                continue
            name = match[1].rstrip("/")
            if name not in known and not any(other.startswith(name + "/") for other in known):
                yield f"{path}:{number}: '{name}' does not exist"
        for match in LINK.finditer(line):
            target = os.path.normpath(os.path.join(os.path.dirname(path), match[1]))
            if target not in known:
                yield f"{path}:{number}: the link to '{match[1]}' leads nowhere"


def line_numbers_in_documents(files):
    """Documents name functions and files, never lines: lines move."""
    for path, number, line in lines_of(files, ".md"):
        if re.search(r"\w\.(?:h|cpp|lua|py|sh):\d+", line):
            yield f"{path}:{number}: names a line of a source file"


FOREIGN_WORDS = [
    (re.compile(r"\bissues? #?[0-9]", re.I), "the number of an issue"),
    (re.compile(r"/work/(?:main|shared|\.)|/tmp/(?:brief|build-)|/home/\w"), "an absolute path of one machine"),
    (re.compile(r"\b(?:design|style|pitfalls)\.md\b"), "a document that is not part of the tree"),
    (re.compile(r"\bsub-?agents?\b|\bclaude\b|\banthropic\b|\bthe brief\b", re.I), "how the work was done"),
    (re.compile(r"https?://[\w.-]*(?:artifactory|nexus|pypi-proxy|\.internal\b)"), "the name of a private registry"),
]


def foreign_words(files):
    """The repository speaks of evictd alone."""
    for path, number, line in lines_of(files, *sorted(TEXT_SUFFIXES)):
        if path.startswith("tests/tree/"):
            continue
        for pattern, what in FOREIGN_WORDS:
            if match := pattern.search(line):
                yield f"{path}:{number}: '{match[0]}' is {what}"


BANNED = [
    (re.compile(r"\bassert\s*\("), "use EVICTD_CHECK, which stays on in every build"),
    (re.compile(r"\busing namespace std;"), "name what is used"),
    (re.compile(r"\b(?:atoi|atol|atoll|atof)\s*\("), "takes anything for a number"),
    (re.compile(r"\b(?:TODO|FIXME|XXX)\b"), "finish it, or write down why not"),
]


def banned_words(files):
    """In the program itself."""
    for path, number, line in lines_of(files, ".h", ".cpp"):
        if path.startswith("tests/"):
            continue
        for pattern, instead in BANNED:
            if match := pattern.search(line):
                yield f"{path}:{number}: '{match[0]}': {instead}"


def headers(files):
    """A header begins with what it is, and is included once."""
    for path, text in files.items():
        if not path.endswith(".h"):
            continue
        if not text.startswith("//"):
            yield f"{path}:1: a header begins by saying what it is"
        if "#pragma once" not in text:
            yield f"{path}:1: '#pragma once' is missing"


def sleeping_tests(files):
    """Unit tests have a clock of their own; where another process is driven, waiting has a condition and an end."""
    for path, text in files.items():
        if not path.startswith("tests/unit/") or not path.endswith((".h", ".cpp")):
            continue
        lines = text.splitlines()
        for number, line in enumerate(lines, 1):
            if not re.search(r"\b(?:sleep_for|sleep_until|usleep|nanosleep)\b", line):
                continue
            before = "\n".join(lines[max(0, number - 8):number])
            if not re.search(r"\b(?:wait_for|wait_until|eventually)\w*\(", before):
                yield f"{path}:{number}: a unit test sleeps only inside a wait with a condition and an end"


FINDING_ID = re.compile(r"\b(?:CF|PG|RD|KF|HT)[0-9]{3}\b")
SAID_FINDING = re.compile(r'"((?:CF|PG|RD|KF|HT)[0-9]{3})"')


def findings(files):
    """What `evictd check` can say is in docs/operations.md, and nothing else is."""
    document = "docs/operations.md"
    if document not in files:
        return
    said = {one for _, _, line in lines_of(files, ".cpp", below="daemon/") for one in SAID_FINDING.findall(line)}
    documented = set(FINDING_ID.findall(files[document]))
    for one in sorted(said - documented):
        yield f"{document}:1: '{one}' is missing"
    for one in sorted(documented - said):
        yield f"{document}:1: nothing says '{one}'"


RULES = [
    include_directions, libraries, built_files, named_files, line_numbers_in_documents, foreign_words, banned_words,
    headers, sleeping_tests, findings,
]
