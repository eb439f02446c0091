"""The decorator, for blocking and for asynchronous functions: what carries the steps of reading.py out."""

import asyncio
import functools
import inspect
import time

import redis

from . import reading
from .codecs import JSON
from .dependencies import Load, depends_on, is_loading
from .names import NoName, check_key, check_template, render

# Replies as bytes, whatever the client decodes otherwise: a value is whatever bytes it is.
_BYTES = {"NEVER_DECODE": []}
_REDIS_ERRORS = (redis.RedisError, redis.exceptions.RedisClusterException)


def _is_cluster(client):
    return "Cluster" in type(client).__name__


def _how(client, command):
    """How a client is to send a command. That of a cluster would ask Redis at each call which words of it are keys; and it still does
    when a slot has moved."""
    try:
        return {**_BYTES, "target_nodes": client.get_node_from_key(command.keys[0])} if hasattr(client, "get_node_from_key") else _BYTES
    except _REDIS_ERRORS:  # it does not know the slots yet
        return _BYTES


class _Common:
    """What both caches are made of.

    client    of redis-py, with a timeout of its own. A client of a cluster is known by its class
    snapshot  where a token is asked for: see snapshots.py
    prefix    stands before every key, as it does in the rules' keys
    options   defaults of cached(): ttl, lazy, codec, lease, wait, jitter, early, serve_stale"""

    def __init__(self, client, snapshot, *, prefix="", **options):
        self.client = client
        self.snapshot = snapshot
        self.prefix = prefix.encode() if isinstance(prefix, str) else prefix
        self.options = options
        self.memory = reading.Memory()
        self._check(**options)

    @property
    def counts(self):
        """hits, stale, misses, busy, fills, refused, redis_errors, ... of this process."""
        return dict(self.memory.counts)

    @staticmethod
    def _check(ttl=600, lazy=False, codec=JSON, lease=2.0, wait=1.0, jitter=0, early=0, serve_stale=True):
        """Seconds to what evictd's functions take."""
        ttl_ms = reading.FOREVER_MS if ttl is None else int(ttl * 1000)
        if ttl_ms < 1:
            raise ValueError(f"expected a ttl of at least 0.001 s, or None, got {ttl!r}")
        if not 0 <= jitter <= 100:
            raise ValueError(f"expected a jitter of 0 to 100 percent, got {jitter!r}")
        return {"ttl_ms": ttl_ms, "lazy": lazy, "codec": codec, "lease_ms": int(lease * 1000), "wait_s": wait, "jitter": jitter,
                "early": early, "serve_stale": serve_stale}

    def plan(self, key, tags, **options):
        return reading.Plan(check_key(self.prefix + key), tags, is_cluster=_is_cluster(self.client),
                            **self._check(**{**self.options, **options}))

    def cached(self, key, tags=(), ttl=600, *, snapshot=None, **options):
        """Keeps what a function returns.

        key   'product:{product_id}', with the function's arguments, or a function that is called as this one is and returns it.
              Spelled as the rule spells it
        tags  likewise, each. More may be told by the function while it runs: uses(), depends_on()
        ttl   seconds; None: as long as Redis keeps it"""
        if isinstance(tags, (str, bytes)):
            raise TypeError(f"expected a list of tags, got {tags!r}")
        options = {**self.options, "ttl": ttl, **options}
        self._check(**options)

        def decorate(function):
            if inspect.iscoroutinefunction(function) != self._is_async:
                raise TypeError(f"{type(self).__name__} is for {'async' if self._is_async else 'ordinary'} functions, and "
                                f"'{function.__qualname__}' is none")
            signature = inspect.signature(function)
            for template in (key, *tags):
                check_template(template, signature.parameters)
            return self._wrapper(function, _Calls(self, signature, key, tuple(tags), snapshot or self.snapshot, options))

        return decorate


class _Calls:
    """What a call of one decorated function means."""

    def __init__(self, cache, signature, key, tags, snapshot, options):
        self.cache = cache
        self.signature = signature
        self.key = key
        self.tags = tags
        self.snapshot = snapshot
        self.options = options

    def arguments(self, args, kwargs):
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def plan(self, args, kwargs):
        """None: nothing of this call can be cached."""
        arguments = self.arguments(args, kwargs)
        try:
            key = render(self.key, arguments, args, kwargs)
        except NoName:
            return None
        tags = []
        for template in self.tags:
            try:
                tags.append(render(template, arguments, args, kwargs))
            except NoName:
                pass  # evictd has no tag of a NULL either
        return self.cache.plan(key, tags, **self.options)


class Cache(_Common):
    """For ordinary functions and a redis.Redis or redis.cluster.RedisCluster. Any thread."""

    _is_async = False

    def run(self, steps, make=None, snapshot=None, arguments=None):
        """Carries the steps out and returns what they come to."""
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value
            if isinstance(step, reading.Calls):
                answer = [self._call(command) for command in step.commands]
            elif isinstance(step, reading.Sleep):
                answer = time.sleep(step.seconds)
            elif isinstance(step, reading.MayHaveWritten):
                answer = snapshot.may_have_written(arguments)
            elif isinstance(step, reading.Token):
                answer = snapshot.token(arguments)
            elif isinstance(step, reading.StillReading):
                answer = snapshot.still_reading(arguments)
            else:
                with Load() as tags:
                    answer = make()
                answer = answer, list(tags)

    def _call(self, command):
        try:
            return self.client.execute_command(*command.words(), **_how(self.client, command))
        except _REDIS_ERRORS as error:
            return error

    def _wrapper(self, function, calls):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            plan = calls.plan(args, kwargs)
            if plan is None or is_loading():
                if plan is not None:
                    depends_on(*plan.tags)
                return function(*args, **kwargs)
            return self.run(reading.read(plan, self.memory), functools.partial(function, *args, **kwargs), calls.snapshot,
                            calls.arguments(args, kwargs))

        return wrapper


class AsyncCache(_Common):
    """For async functions and a redis.asyncio.Redis or redis.asyncio.RedisCluster. One event loop."""

    _is_async = True

    async def run(self, steps, make=None, snapshot=None, arguments=None):
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value
            if isinstance(step, reading.Calls):
                answer = await asyncio.gather(*(self._call(command) for command in step.commands))
            elif isinstance(step, reading.Sleep):
                answer = await asyncio.sleep(step.seconds)
            elif isinstance(step, reading.MayHaveWritten):
                answer = snapshot.may_have_written(arguments)
            elif isinstance(step, reading.Token):
                answer = await _awaited(snapshot.token(arguments))
            elif isinstance(step, reading.StillReading):
                answer = await _awaited(snapshot.still_reading(arguments))
            else:
                with Load() as tags:
                    answer = await make()
                answer = answer, list(tags)

    async def _call(self, command):
        try:
            return await self.client.execute_command(*command.words(), **_how(self.client, command))
        except _REDIS_ERRORS as error:
            return error

    def _wrapper(self, function, calls):
        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            plan = calls.plan(args, kwargs)
            if plan is None or is_loading():
                if plan is not None:
                    depends_on(*plan.tags)
                return await function(*args, **kwargs)
            return await self.run(reading.read(plan, self.memory), functools.partial(function, *args, **kwargs), calls.snapshot,
                                  calls.arguments(args, kwargs))

        return wrapper


async def _awaited(answer):
    return await answer if inspect.isawaitable(answer) else answer
