"""The rules of tree.py hold for this tree, and each rule finds what it is there to find."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import tree  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]


class ThisTree(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.files = tree.read_tree(ROOT)

    def test_is_read(self):
        self.assertIn("mapping/mapper.h", self.files)
        self.assertIn("CMakeLists.txt", self.files)


def add_rule(rule):
    def test(self):
        self.assertEqual("", "\n".join(rule(self.files)))

    setattr(ThisTree, f"test_{rule.__name__}", test)


for each in tree.RULES:
    add_rule(each)


class Rules(unittest.TestCase):
    def broken(self, rule, files):
        return list(rule(files))

    def test_include_directions(self):
        found = self.broken(tree.include_directions, {
            "mapping/a.cpp": '#include "mapping/b.h"\n#include "daemon/base/clock.h"\n',
            "daemon/sinks/redis/a.cpp": '#include "daemon/interface/sink.h"\n#include "daemon/sinks/redis/b.h"\n'
                                        '#include "daemon/sources/kafka/c.h"\n#include "daemon/flow/pipeline.h"\n'
                                        '#include "daemon/sinks/redis/doctor/d.h"\n',
            "daemon/flow/a.cpp": '#include "daemon/interface/sink.h"\n#include "daemon/app/metrics.h"\n',
            "daemon/b.cpp": '#include "daemon/app/main.h"\n',
            "daemon/app/b.cpp": '#include "daemon/sinks/redis/redis_sink.h"\n#include "daemon/sinks/redis/doctor/d.h"\n',
            "tests/unit/mapping/a_test.cpp": '#include "daemon/base/clock.h"\n',
        })
        self.assertEqual(found, [
            "mapping/a.cpp:2: mapping/ may not include 'daemon/base/clock.h'",
            "daemon/sinks/redis/a.cpp:3: daemon/sinks/redis/ may not include 'daemon/sources/kafka/c.h'",
            "daemon/sinks/redis/a.cpp:4: daemon/sinks/redis/ may not include 'daemon/flow/pipeline.h'",
            "daemon/sinks/redis/a.cpp:5: what runs may not include 'daemon/sinks/redis/doctor/d.h'",
            "daemon/flow/a.cpp:2: daemon/flow/ may not include 'daemon/app/metrics.h'",
            "daemon/b.cpp:1: nothing includes main",
            "daemon/b.cpp:1: is in no room",
            "tests/unit/mapping/a_test.cpp:1: the tests of the mapping may not include 'daemon/base/clock.h'",
        ])

    def test_libraries(self):
        found = self.broken(tree.libraries, {
            "mapping/yaml.cpp": "#include <yaml-cpp/parser.h>\n",
            "mapping/rules.cpp": "#include <vector>\n#include <yaml-cpp/parser.h>\n",
        })
        self.assertEqual(found, ["mapping/rules.cpp:2: 'yaml-cpp/parser.h' belongs in mapping/yaml.cpp"])

    def test_built_files(self):
        found = self.broken(tree.built_files, {
            "tests/a/CMakeLists.txt": "add_executable(x a_test.cpp)\nevictd_fuzz(rules lib)\n",
            "tests/a/a_test.cpp": "", "tests/a/b_test.cpp": "", "tests/a/a.cpp": "",
            "tests/fuzz/rules_fuzz.cpp": "", "tests/fuzz/other_fuzz.cpp": "",
        })
        self.assertEqual(found, [
            "tests/a/b_test.cpp:1: no CMake file names it",
            "tests/a/a.cpp:1: no CMake file names it",
            "tests/fuzz/other_fuzz.cpp:1: no CMakeLists.txt calls evictd_fuzz() for it",
        ])

    def test_named_files(self):
        found = self.broken(tree.named_files, {
            "mapping/rules.h": "",
            "README.md": "See `mapping/rules.h`, mapping/, mapping/gone.cpp, tests/unit/*, GONE.md.\n"
                         "[a](docs/a.md) [b](https://x/y) [c](mapping/rules.h)\n",
        })
        self.assertEqual(found, [
            "README.md:1: 'mapping/gone.cpp' does not exist",
            "README.md:1: 'GONE.md' does not exist",
            "README.md:2: 'docs/a.md' does not exist",
            "README.md:2: the link to 'docs/a.md' leads nowhere",
        ])

    def test_line_numbers_in_documents(self):
        found = self.broken(tree.line_numbers_in_documents, {"README.md": "rules.yaml:14:5 is fine\nsee rules.cpp:12\n"})
        self.assertEqual(found, ["README.md:2: names a line of a source file"])

    def test_foreign_words(self):
        found = self.broken(tree.foreign_words, {
            "a.cpp": "// see issue 2\n// a tissue 3\n// /work/main/x\n// as design.md says\n// DESIGN.md\n",
        })
        self.assertEqual([line.split(":")[1] for line in found], ["1", "3", "4"])

    def test_banned_words(self):
        found = self.broken(tree.banned_words, {"a.cpp": "static_assert(x);\nassert(x);\natoi(x);\n// TODO: x\n"})
        self.assertEqual([line.split(":")[1] for line in found], ["2", "3", "4"])

    def test_headers(self):
        found = self.broken(tree.headers, {"a.h": "// What.\n#pragma once\n", "b.h": "#include <x>\n"})
        self.assertEqual(found, ["b.h:1: a header begins by saying what it is", "b.h:1: '#pragma once' is missing"])

    def test_sleeping_tests(self):
        found = self.broken(tree.sleeping_tests, {
            "tests/unit/a_test.cpp": "std::this_thread::sleep_for(1s);\n",
            "tests/unit/b_test.cpp": "void wait_for(x) {\n  for (10 times) {\n    usleep(1);\n",
        })
        self.assertEqual(found, ["tests/unit/a_test.cpp:1: a unit test sleeps only inside a wait with a condition and an end"])

    def test_findings(self):
        found = self.broken(tree.findings, {
            "daemon/check.cpp": 'add("PG001");\nadd("PG002");\n',
            "docs/operations.md": "| PG002 | a |\n| RD003 | b |\n",
        })
        self.assertEqual(found, ["docs/operations.md:1: 'PG001' is missing", "docs/operations.md:1: nothing says 'RD003'"])


if __name__ == "__main__":
    unittest.main()
