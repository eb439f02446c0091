"""Makes tests/harness importable and its fixtures known, however pytest is started."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness.fixtures import cache, folder, make_evictd, make_postgres, make_redis, postgres, redis, seed, shop_rules  # noqa: E402,F401
