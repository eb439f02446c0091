"""Reads pages of many rows through the recipe beside it: see tests/readers/drivers/README.md."""

import json
import os
import sys

import psycopg
import redis
from row_tags import read

cache = redis.Redis(port=int(os.environ["REDIS_PORT"]), decode_responses=True, socket_timeout=1)
database = psycopg.connect(os.environ["POSTGRES_URL"], autocommit=True)


def page_of(category):
    def page(session, uses):
        uses(f"categories:{category}")
        name = session.execute("select name from categories where id = %s", (category,)).fetchone()[0]
        uses(f"products:category_id={category}")
        products = session.execute("select id, price_cents from products where category_id = %s order by id", (category,)).fetchall()
        for product, _ in products:
            uses(f"products:{product}")
            if "FORGET" not in os.environ:
                uses(f"reviews:product_id={product}")
        reviews = session.execute("select product_id, count(*) from reviews where product_id = any(%s) group by 1 order by 1",
                                  ([product for product, _ in products],)).fetchall()
        return "|".join([name, *(" ".join(f"{a}@{b}" for a, b in rows) for rows in (products, reviews))])

    return page


for line in sys.stdin:
    key = line.strip()
    print(json.dumps(read(cache, database, key, page_of(int(key.split(":")[1])))), flush=True)
