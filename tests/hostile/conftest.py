"""The scenarios of tests/faults are used here too."""

import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "faults"))

from hostile.middle import Middle  # noqa: E402  pylint: disable=wrong-import-position


@pytest.fixture
def middle(postgres):
    made = Middle(postgres.port)
    yield made
    made.stop()


@pytest.fixture
def evictd(make_evictd, postgres, middle):
    return make_evictd(postgres_url=f"{postgres.url(port=middle.port)}?sslmode=disable").start()
