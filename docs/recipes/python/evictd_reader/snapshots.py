"""What a value will have seen: the snapshot of the session that is about to read, asked before its first SELECT.

Every statement of a READ COMMITTED transaction has a snapshot of its own, and each sees at least what the one before it saw. So
one that is taken before the first SELECT claims no more than any of them; inside REPEATABLE READ all are one. It is asked on the
session that reads: another session's claims too much when that transaction began earlier.

A source has three methods, each given the arguments of the call (the answers of the last two may be awaitable for AsyncCache):
  may_have_written(arguments)  without asking the database: whether a transaction is open that may have written
  token(arguments)             the text of the token, or None: whatever is read now is not to be cached
  still_reading(arguments)     after the function: whether its transaction has written nothing meanwhile"""

# pylint: disable=invalid-name  # the sources are named as what they are for
from collections.abc import Mapping

# Nothing for a transaction that has written: it sees its own changes, and may still roll back. On a standby only what lies below
# its xmin: it does not know what is in progress on the primary.
TOKEN_SQL = """select case when pg_current_xact_id_if_assigned() is not null then null
  when pg_is_in_recovery() then pg_snapshot_xmin(pg_current_snapshot())::text
  else pg_current_snapshot()::text end"""
WROTE_NOTHING_SQL = "select pg_current_xact_id_if_assigned() is null"


class _Source:
    def __init__(self, source):
        """`source`: the name of the argument that is the session, or a function that returns the current one."""
        if not isinstance(source, str) and not callable(source):
            raise TypeError(f"expected the name of an argument, or a function that returns the session, got {source!r}")
        self._source = source

    def _session(self, arguments):
        if callable(self._source):
            return self._source()
        if self._source not in arguments:
            raise TypeError(f"the snapshot is to be taken on the argument '{self._source}', and the function has "
                            f"{', '.join(arguments) or 'none'}")
        return arguments[self._source]


def _first(row):
    return next(iter(row.values())) if isinstance(row, Mapping) else row[0]


IDLE, IN_TRANSACTION = 0, 2  # libpq's PQtransactionStatus, in psycopg 2 and 3


class psycopg(_Source):
    """A connection of psycopg 3 (also asynchronous) or psycopg 2. Left as it was found: in a transaction, or in none."""

    @staticmethod
    def _cursor(connection):
        if not hasattr(connection, "row_factory"):
            return connection.cursor()
        from psycopg.rows import tuple_row  # pylint: disable=import-outside-toplevel
        return connection.cursor(row_factory=tuple_row)

    def _ask(self, connection, sql):
        if hasattr(connection, "__aenter__"):
            return self._ask_async(connection, sql)
        was = connection.info.transaction_status
        with self._cursor(connection) as cursor:
            cursor.execute(sql)
            answer = _first(cursor.fetchone())
        if was == IDLE and connection.info.transaction_status != IDLE:
            connection.rollback()
        return answer

    async def _ask_async(self, connection, sql):
        was = connection.info.transaction_status
        async with self._cursor(connection) as cursor:
            await cursor.execute(sql)
            answer = _first(await cursor.fetchone())
        if was == IDLE and connection.info.transaction_status != IDLE:
            await connection.rollback()
        return answer

    def may_have_written(self, arguments):
        return self._session(arguments).info.transaction_status != IDLE

    def token(self, arguments):
        return self._ask(self._session(arguments), TOKEN_SQL)

    def still_reading(self, arguments):
        connection = self._session(arguments)
        status = connection.info.transaction_status
        if status != IN_TRANSACTION:
            return status == IDLE  # else failed, or lost
        return self._ask(connection, WROTE_NOTHING_SQL)


class sqlalchemy(_Source):
    """A Session, scoped_session or Connection of SQLAlchemy, or an asynchronous one. Left as it was found.

    A Session that already holds objects may hand them out as they were loaded then, before the snapshot: what is read in it is
    not cached. Give the function a Session of its own."""

    @staticmethod
    def _holds_objects(session):
        session = getattr(session, "sync_session", session)
        return hasattr(session, "identity_map") and bool(len(session.identity_map) or session.new or session.deleted)

    def _ask(self, session, sql):
        from sqlalchemy import text  # pylint: disable=import-outside-toplevel
        if hasattr(session, "sync_session") or hasattr(session, "sync_connection"):
            return self._ask_async(session, text(sql))
        was_in_transaction = session.in_transaction()
        answer = session.execute(text(sql)).scalar()
        if not was_in_transaction:
            session.rollback()
        return answer

    @staticmethod
    async def _ask_async(session, statement):
        was_in_transaction = session.in_transaction()
        answer = (await session.execute(statement)).scalar()
        if not was_in_transaction:
            await session.rollback()
        return answer

    def may_have_written(self, arguments):
        session = self._session(arguments)
        return session.in_transaction() or self._holds_objects(session)

    def token(self, arguments):
        session = self._session(arguments)
        return None if self._holds_objects(session) else self._ask(session, TOKEN_SQL)

    def still_reading(self, arguments):
        session = self._session(arguments)
        if not session.in_transaction():
            return True
        own = getattr(session, "sync_session", session)
        if hasattr(own, "identity_map") and (own.new or own.dirty or own.deleted):
            return False  # not flushed yet
        return self._ask(session, WROTE_NOTHING_SQL)


class django(_Source):
    """The connection of a database of Django's settings, by its alias."""

    def __init__(self, using="default"):
        def connection():
            from django.db import connections  # pylint: disable=import-outside-toplevel
            return connections[using]

        super().__init__(connection)

    @staticmethod
    def _ask(connection, sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0]

    def may_have_written(self, arguments):
        return not self._session(arguments).get_autocommit()

    def token(self, arguments):
        connection = self._session(arguments)
        return None if connection.needs_rollback else self._ask(connection, TOKEN_SQL)

    def still_reading(self, arguments):
        connection = self._session(arguments)
        if connection.needs_rollback:
            return False
        return connection.get_autocommit() or self._ask(connection, WROTE_NOTHING_SQL)
