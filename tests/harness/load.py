"""Threads that write and read, each on a connection of its own, until the end of a block."""

import random
import threading


class Load:
    """`works`: called over and over as work(connection, cursor, client, choices), one thread each. What one raises fails the block."""

    def __init__(self, postgres, redis, seed, works, autocommit=True):
        self.postgres, self.redis, self.autocommit = postgres, redis, autocommit
        self.stop = threading.Event()
        self.failure = None
        self.threads = [threading.Thread(target=self._run, args=(work, random.Random(f"{seed}/{number}")))
                        for number, work in enumerate(works)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert self.failure is None, self.failure

    def _run(self, work, choices):
        connection = self.postgres.connect(autocommit=self.autocommit)
        client = self.redis.client()
        try:
            with connection.cursor() as cursor:
                while not self.stop.is_set():
                    work(connection, cursor, client, choices)
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error
        connection.close()
