"""Cache-aside with evictd: a decorator around any function that reads from PostgreSQL.

    cache = Cache(redis.Redis(socket_timeout=1), snapshot=psycopg("connection"))

    @cache.cached("product:{product_id}", tags=["category:{category_id}"], ttl=600)
    def product(connection, category_id, product_id): ...

README.md of this package tells the rest; what each way to fill promises stands in evictd's docs/readers.md."""

from .cache import AsyncCache, Cache
from .codecs import BYTES, JSON, PICKLE, TEXT, Codec
from .dependencies import depends_on, row_tag, uses
from .names import WrongName
from .reading import WrongCall
from .snapshots import TOKEN_SQL, django, psycopg, sqlalchemy

__all__ = [
    "AsyncCache", "BYTES", "Cache", "Codec", "JSON", "PICKLE", "TEXT", "TOKEN_SQL", "WrongCall", "WrongName", "depends_on", "django",
    "psycopg", "row_tag", "sqlalchemy", "uses",
]
