"""What a value was made from, told by the function that makes it, while it does.

The function may call uses() at any depth. Threads that it starts by itself do not see its context: tell there what they
return, and call uses() in the function. Tasks of asyncio do."""

import contextvars

from .names import text_of

_loading = contextvars.ContextVar("evictd_reader.loading", default=None)


def row_tag(table, row=None, **columns):
    """'row:variants:17'; row_tag("reviews", product_id=7) is 'row:reviews:product_id=7', for rows that may come."""
    if row is not None and not columns:
        return f"row:{table}:{text_of(row)}"
    if row is None and len(columns) == 1:
        (column, value), = columns.items()
        return f"row:{table}:{column}={text_of(value)}"
    raise TypeError("expected a row's key or one column=value, as in uses('variants', 17) or uses('reviews', product_id=7)")


def uses(table, *rows, **columns):
    """The value being made depends on these rows, or on every row of the table with that value in that column."""
    for row in rows:
        depends_on(row_tag(table, row))
    for column, value in columns.items():
        depends_on(row_tag(table, **{column: value}))


def depends_on(*tags):
    """The value being made is to go when one of these tags is invalidated. Outside of a cached function: nothing."""
    tags_of_load = _loading.get()
    if tags_of_load is not None:
        tags_of_load.update(dict.fromkeys(tag.encode() if isinstance(tag, str) else tag for tag in tags))


class Load:
    """While a function makes its value: `with Load() as tags`, then list(tags)."""

    def __enter__(self):
        tags = {}  # ordered, each once
        self._token = _loading.set(tags)
        return tags

    def __exit__(self, *_):
        _loading.reset(self._token)


def is_loading():
    """Whether a cached function is making its value here. Others that it calls must not answer from the cache then: what
    they hold may be older than the snapshot that the value will claim."""
    return _loading.get() is not None

