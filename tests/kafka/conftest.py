"""One Kafka and one Kafka Connect for all tests of a file: a JVM takes seconds to start."""

import os
import shutil
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import parts  # noqa: E402  pylint: disable=wrong-import-position
from harness import process  # noqa: E402  pylint: disable=wrong-import-position


@pytest.fixture(scope="module")
def parts_folder():
    path = process.temporary_folder("evictd-kafka-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def kafka(parts_folder):
    parts.fetch()
    server = parts.Kafka(f"{parts_folder}/kafka").start()
    yield server
    server.stop(hard=True)


@pytest.fixture(scope="module")
def client(kafka):
    return parts.Client(kafka.brokers)


@pytest.fixture(scope="module")
def connect(parts_folder, kafka):
    server = parts.Connect(f"{parts_folder}/connect", kafka).start()
    yield server
    server.stop(hard=True)
