"""Reads keys through the recipe beside it: see tests/readers/drivers/README.md."""

import json
import os
import sys

import psycopg
import redis
from cache_aside import read

cache = redis.Redis(port=int(os.environ["REDIS_PORT"]), decode_responses=True, socket_timeout=1,
                    username=os.environ.get("REDIS_USER"), password=os.environ.get("REDIS_PASSWORD"))
database = psycopg.connect(os.environ["POSTGRES_URL"], autocommit=True)
QUERY = "select row_to_json(p) from products p where id = %s"
for line in sys.stdin:
    key = line.strip()
    print(json.dumps(read(cache, database, key, QUERY, (int(key.split(":")[1]),))), flush=True)
