"""A cache-aside application on the shop of deploy/shop.sql, and the check that its cache tells the truth.

Readers are plain: GET, on a miss SELECT, then SET without a TTL, so that a value left stale stays stale and
is found. Every key's value can be computed again from the database: that is the oracle."""

import random
import threading
import time

import psycopg2
import redis as redis_client

SCHEMA = "deploy/shop.sql"

# A reader may take less than `settle` from its SELECT to its SET (guarantee G4); these readers notice when
# the machine held them up for longer and take their value out again.
READER_PATIENCE = 0.5

LOADS = {
    "product": "select row_to_json(p)::text from products p where id = %s",
    "slug": "select id::text from products where slug = %s",
    "reviews": "select count(*) || ' reviews, ' || coalesce(sum(rating), 0) || ' stars' from reviews where product_id = %s",
    "sold": "select coalesce(sum(quantity), 0)::text from orders where product_id = %s",
    "category": "select name from categories where id = %s",
    "listing": "select coalesce(string_agg(id || '@' || price_cents, ' ' order by id), '') from products where category_id = %s",
    "config": "select value from settings where name = %s",
}
ABSENT = "(absent)"


def parse(key):
    """(what, argument) of a key this application stores, or None for any other key."""
    parts = key.split(":")
    if parts[0] == "product" and len(parts) == 2:
        return "product", int(parts[1])
    if parts[0] == "product" and parts[1] == "slug" and len(parts) == 3:
        return "slug", parts[2]
    if parts[0] == "product" and len(parts) == 3 and parts[2] in ("reviews", "sold"):
        return parts[2], int(parts[1])
    if parts[0] in ("category", "listing") and len(parts) == 2:
        return parts[0], int(parts[1])
    if parts[0] == "config" and len(parts) == 2:
        return "config", parts[1]
    return None


def load(cursor, key):
    """The value of a key, from the database."""
    what, argument = parse(key)
    cursor.execute(LOADS[what], (argument,))
    row = cursor.fetchone()
    # What does not exist is cached too, so an INSERT that fails to invalidate shows.
    return ABSENT if row is None or row[0] is None else row[0]


def fill(cache, cursor, key):
    """One plain cache-aside read. True when the value came from the cache."""
    if cache.get(key) is not None:
        return True
    begin = time.monotonic()
    value = load(cursor, key)
    if time.monotonic() - begin > READER_PATIENCE:
        return False
    if key.startswith("listing:"):
        # In one transaction: a key listed before it exists could be walked, found absent and taken off the
        # list before its value arrives, and no later change would find it.
        with cache.pipeline(transaction=True) as together:
            together.sadd("tag:category:" + key.split(":")[1], key)
            together.set(key, value)
            together.execute()
    else:
        cache.set(key, value)
    if time.monotonic() - begin > 2 * READER_PATIENCE * 0.9:
        cache.delete(key)
    return False


# What no rule names, and what only looks like a key of the shop.
SENTINELS = {
    "session:1": "somebody", "products": "not a key of ours", "xproduct:1": "prefix", "prod": "short",
    "untouched:product:1": "suffix", "categories:1": "plural", "myconfig:currency": "prefix",
}


def plant_sentinels(cache):
    for key, value in SENTINELS.items():
        cache.set(key, value)
    cache.sadd("tag:unrelated", "session:1")


def create(postgres, root):
    """The shop's database on a private server."""
    postgres.execute("create database shop", database="postgres")
    with open(f"{root}/{SCHEMA}", encoding="utf-8") as file:
        postgres.execute(file.read())


class Shop:
    """Writers and readers in threads, until stop(). Both go on through restarts of their servers; what they
    could not finish they try again with new choices."""

    def __init__(self, postgres, cache_client, seed, *, products=100, categories=5, writers=2, readers=2,
                 actions=None, writer_pause=0.0, reader_pause=0.0):
        self.postgres = postgres
        self.cache_client = cache_client  # a function that makes a client
        self.seed = seed
        self.products = products
        self.categories = categories
        self.writer_pause = writer_pause
        self.reader_pause = reader_pause
        self.actions = actions or list(ACTIONS)
        self.writes = 0
        self.reads = 0
        self.hits = 0
        self.interruptions = 0
        self.failure = None
        self._stop_writers = threading.Event()
        self._stop_readers = threading.Event()
        self._writers = [threading.Thread(target=self._guard, args=(self._write, f"{seed}w{i}")) for i in range(writers)]
        self._readers = [threading.Thread(target=self._guard, args=(self._read, f"{seed}r{i}")) for i in range(readers)]

    def start(self):
        for thread in self._writers + self._readers:
            thread.daemon = True
            thread.start()
        return self

    def stop_writers(self):
        self._stop_writers.set()
        for thread in self._writers:
            thread.join(60)
            assert not thread.is_alive(), "a writer hangs"
        self._raise_failure()

    def stop(self):
        self.stop_writers()
        self._stop_readers.set()
        for thread in self._readers:
            thread.join(60)
            assert not thread.is_alive(), "a reader hangs"
        self._raise_failure()

    def _raise_failure(self):
        if self.failure is not None:
            raise self.failure

    def _guard(self, work, seed):
        try:
            work(random.Random(seed))
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def _again_after(self, stop):
        """A server went away: a new connection is made after a short pause."""
        self.interruptions += 1
        stop.wait(0.05)

    def _write(self, random_source):
        while not self._stop_writers.is_set():
            try:
                connection = self.postgres.connect(connect_timeout=5)
                # A writer that stop_writers() waits for must not wait for ever on a hanging commit.
                with connection.cursor() as cursor:
                    while not self._stop_writers.is_set():
                        action = ACTIONS[random_source.choice(self.actions)]
                        try:
                            cursor.execute("begin")
                            action(cursor, random_source, self)
                            cursor.execute("rollback" if random_source.random() < 0.03 else "commit")
                            self.writes += 1
                        except (psycopg2.IntegrityError, psycopg2.extensions.TransactionRollbackError,
                                psycopg2.errors.UndefinedTable):
                            cursor.execute("rollback")
                        if self.writer_pause:
                            self._stop_writers.wait(self.writer_pause)
                connection.close()
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self._again_after(self._stop_writers)

    def any_key(self, random_source):
        product = random_source.randint(1, self.products)
        return random_source.choice([
            f"product:{product}", f"product:{product}", f"product:slug:product-{product}",
            f"product:slug:new-{product}", f"product:{product}:reviews", f"product:{product}:sold",
            f"category:{random_source.randint(1, self.categories)}",
            f"listing:{random_source.randint(1, self.categories)}",
            f"config:{random_source.choice(['currency', 'banner', 'absent'])}"])

    def _read(self, random_source):
        while not self._stop_readers.is_set():
            try:
                cache = self.cache_client()
                connection = self.postgres.connect(connect_timeout=5)
                with connection.cursor() as cursor:
                    while not self._stop_readers.is_set():
                        self.hits += fill(cache, cursor, self.any_key(random_source))
                        self.reads += 1
                        if self.reader_pause:
                            self._stop_readers.wait(self.reader_pause)
                connection.close()
            except (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.errors.UndefinedTable,
                    redis_client.RedisError):
                self._again_after(self._stop_readers)


def _price(cursor, random_source, shop):
    cursor.execute("update products set price_cents = %s where id = %s",
                   (random_source.randint(1, 10**6), random_source.randint(1, shop.products)))


def _slug(cursor, random_source, shop):
    product = random_source.randint(1, shop.products)
    cursor.execute("update products set slug = %s where id = %s",
                   (f"{random_source.choice(['new', 'product'])}-{product}", product))


def _move(cursor, random_source, shop):
    cursor.execute("update products set category_id = %s where id = %s",
                   (random_source.randint(1, shop.categories), random_source.randint(1, shop.products)))


def _remove_or_add(cursor, random_source, shop):
    product = random_source.randint(1, shop.products)
    cursor.execute("delete from products where id = %s", (product,))
    if cursor.rowcount == 0:
        cursor.execute("insert into products values (%s, %s, %s, %s, %s)",
                       (product, f"product-{product}", f"Product {product}", random_source.randint(1, 10**6),
                        random_source.randint(1, shop.categories)))


def _review(cursor, random_source, shop):
    cursor.execute("insert into reviews (product_id, rating, body) values (%s, %s, 'fine')",
                   (random_source.randint(1, shop.products), random_source.randint(1, 5)))
    cursor.execute("delete from reviews where id = (select min(id) from reviews where product_id = %s)",
                   (random_source.randint(1, shop.products),))


def _order(cursor, random_source, shop):
    cursor.execute("insert into orders (product_id, quantity) values (%s, %s)",
                   (random_source.randint(1, shop.products), random_source.randint(1, 9)))


def _category(cursor, random_source, shop):
    cursor.execute("update categories set name = %s where id = %s",
                   (f"name {random_source.random()}", random_source.randint(1, shop.categories)))


def _setting(cursor, random_source, _shop):
    cursor.execute("update settings set value = %s where name = 'banner'", (f"banner {random_source.random()}",))


def _sale(cursor, random_source, shop):
    """Many rows at once, part of them taken back by a savepoint."""
    cursor.execute("update products set price_cents = price_cents + 1 where id %% 7 = %s", (random_source.randint(0, 6),))
    cursor.execute("savepoint half")
    cursor.execute("update products set price_cents = price_cents + 1000 where id %% 5 = %s", (random_source.randint(0, 4),))
    if random_source.random() < 0.5:
        cursor.execute("rollback to savepoint half")


ACTIONS = {
    "price": _price, "slug": _slug, "move": _move, "remove_or_add": _remove_or_add, "review": _review,
    "order": _order, "category": _category, "setting": _setting, "sale": _sale,
}


def differences(postgres, cache, limit=20):
    """Every cached value that is not its row's, every key evictd should not have touched, and every key that
    should not be there. Empty when the cache tells the truth. Stop writers and readers first."""
    found = []
    for key, value in SENTINELS.items():
        if cache.get(key) != value.encode():
            found.append(f"{key}: touched, although no rule names it")
    connection = postgres.connect(autocommit=False)
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    checked = 0
    with connection.cursor() as cursor:
        for raw in cache.scan_iter(count=1000):
            key = raw.decode()
            if key.startswith(("evictd:", "tag:")) or key in SENTINELS:
                continue
            if parse(key) is None:
                found.append(f"{key}: unknown key")
                continue
            cached = cache.get(key)
            fresh = load(cursor, key)
            checked += 1
            if cached is not None and cached.decode() != fresh:
                found.append(f"{key}: cached {cached.decode()!r}, the row says {fresh!r}")
            if len(found) >= limit:
                break
    connection.close()
    return found, checked
