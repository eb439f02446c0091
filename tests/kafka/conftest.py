"""One Kafka and one Kafka Connect for all tests here: a JVM takes seconds to start. Each test has topics, a connector
and a consumer group of its own."""

import itertools
import os
import re
import shutil
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import parts  # noqa: E402  pylint: disable=wrong-import-position
from group import Group  # noqa: E402  pylint: disable=wrong-import-position
from harness import process  # noqa: E402  pylint: disable=wrong-import-position


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def session_folder():
    path = process.temporary_folder("evictd-kafka-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def parts_folder():
    path = process.temporary_folder("evictd-kafka-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka(session_folder):
    parts.fetch()
    server = parts.Kafka(f"{session_folder}/kafka").start()
    yield server
    server.stop(hard=True)


@pytest.fixture(scope="session")
def client(kafka):
    return parts.Client(kafka.brokers)


@pytest.fixture(scope="session")
def connect(session_folder, kafka):
    server = parts.Connect(f"{session_folder}/connect", kafka).start()
    yield server
    server.stop(hard=True)


@pytest.fixture
def make_group(kafka, client, connect, request):
    """make_group(**connector settings): the shop behind a connector, and an empty consumer group."""
    made = []
    folder = process.temporary_folder("evictd-group-")

    def make(**connector):
        # Of what PostgreSQL allows in the name of a slot, and different from every other test's.
        words = re.sub("[^a-z0-9]+", "_", request.node.name.removeprefix("test_")).strip("_")
        name = f"{words[:40]}_{next(_numbers)}"
        made.append(Group(folder, kafka, client, connect, name, **connector))
        return made[-1]

    yield make
    for group in made:
        group.close()
    shutil.rmtree(folder, ignore_errors=True)
