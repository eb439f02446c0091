"""A cache backend for Django, for values that are made from rows.

    CACHES = {"rows": {"BACKEND": "evictd_reader.django_cache.RowCache", "LOCATION": "redis://127.0.0.1:6379/0",
                       "OPTIONS": {"using": "default"}}}

Its keys are Django's, ':1:product:7', and the rules spell them so. What it promises rests on the order get, read, set:

  get_or_set(key, function)   a checked read: the snapshot is taken before the function is called
  get(key), then set(key)     likewise: get() takes the snapshot when it finds nothing, and set() in the same thread or task is
                              checked against it. What the value is made from has to be read after get()
  set(key) without a get()    stores nothing: nobody can tell what that value has seen. So does one in a transaction that has
                              written: the next reader fills
  delete(key)                 always right
  add, incr, touch, clear     refused: locks and counters belong into another cache, and clear() would take evictd's record along

The values are pickled, as Django's own are; OPTIONS may name another 'codec' (a Codec), and 'lease', 'wait', 'jitter', 'early',
'lazy', 'serve_stale' as cached() has them. Within functions that get_or_set() calls, uses() and depends_on() add tags."""

import contextvars
import time

import redis
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from . import reading
from .cache import Cache
from .codecs import PICKLE
from .dependencies import is_loading
from .snapshots import django

PENDING_MAX = 1000  # of one thread or task: gets that found nothing and were not followed by a set

_pending = contextvars.ContextVar("evictd_reader.pending", default=None)


class RowCache(BaseCache):
    def __init__(self, location, params):
        super().__init__(params)
        options = {"codec": PICKLE, **params.get("OPTIONS", {})}
        self._source = django(options.pop("using", "default"))
        client = redis.Redis.from_url(location, **{"socket_timeout": 1, **options.pop("client", {})})
        self._cache = Cache(client, self._source, **options)

    @property
    def counts(self):
        return self._cache.counts

    def _plan(self, key, version, timeout=DEFAULT_TIMEOUT, tags=()):
        key = self.make_key(key, version=version)
        self.validate_key(key)
        timeout = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return self._cache.plan(key.encode(), [tag.encode() for tag in tags], ttl=timeout)

    def _run(self, steps, make=None):
        return self._cache.run(steps, make, self._source, {})

    def get(self, key, default=None, version=None):
        if is_loading():
            return default
        plan = self._plan(key, version)
        return self._run(self._get(plan, default))

    def _get(self, plan, default):
        found, began, token = yield from reading.prepare(plan, self._cache.memory)
        if token is not None:
            self._remember(plan.key, began, token)
        return default if found.value is reading.MISSING else found.value

    @staticmethod
    def _remember(key, began, token):
        pending = _pending.get()
        if pending is None:
            pending = {}
            _pending.set(pending)
        pending.pop(key, None)
        pending[key] = began, token
        if len(pending) > PENDING_MAX:
            del pending[next(iter(pending))]

    def set(self, key, value, timeout=DEFAULT_TIMEOUT, version=None):
        if timeout is not None and timeout is not DEFAULT_TIMEOUT and timeout <= 0:
            self.delete(key, version)
            return
        plan = self._plan(key, version, timeout)
        began, token = (_pending.get() or {}).pop(plan.key, (0, None))
        if token is None:
            self._cache.memory.warn("not_filled_without_a_get", f"set() of {plan.key!r} stores nothing: no get() before it found it missing")
            return
        payload = plan.codec.dumps(value)
        self._run(reading.fill_if_read(plan, self._cache.memory, token, began, payload, plan.tags))

    def get_or_set(self, key, default, timeout=DEFAULT_TIMEOUT, version=None, tags=()):
        if not callable(default):
            raise TypeError("expected a function that reads the value: what was read before the call has no snapshot")
        if is_loading() or timeout is not DEFAULT_TIMEOUT and timeout is not None and timeout <= 0:
            return default()
        return self._run(reading.read(self._plan(key, version, timeout, tags), self._cache.memory), default)

    def has_key(self, key, version=None):
        return self.get(key, reading.MISSING, version) is not reading.MISSING

    def delete(self, key, version=None):
        key = self.make_key(key, version=version)
        self.validate_key(key)
        return bool(self._cache.client.unlink(key))

    def _refuse(self, *_, **__):
        raise NotImplementedError("this cache holds values made from rows, and evictd deletes them: put locks, counters and sessions "
                                  "into another cache of CACHES")

    add = incr = decr = touch = clear = _refuse
