// What a value will have seen: a snapshot asked for before the first SELECT.
//
// Every statement of a READ COMMITTED transaction has a snapshot of its own, and each sees at least what any earlier one of that
// server saw. So one that is taken before the first SELECT claims no more than any of them, on whatever connection of a pool. Inside
// a transaction that began earlier (REPEATABLE READ), or has written, only that transaction's own client can tell.
//
// A source has three methods, each given the arguments of the call:
//   mayHaveWritten(args)   without asking the database: whether a transaction is open that may have written
//   token(args)            the text of the token, or null: whatever is read now is not to be cached
//   stillReading(args)     after the function: whether its transaction has written nothing meanwhile

// Nothing for a transaction that has written: it sees its own changes, and may still roll back. On a standby only what lies below its
// xmin: it does not know what is in progress on the primary.
export const TOKEN_SQL = `select case when pg_current_xact_id_if_assigned() is not null then null
  when pg_is_in_recovery() then pg_snapshot_xmin(pg_current_snapshot())::text
  else pg_current_snapshot()::text end as token`;
const WROTE_NOTHING_SQL = 'select pg_current_xact_id_if_assigned() is null as token';

const ask = async (session, text) => Object.values((await session.query(text)).rows[0])[0];

// A pool runs each query by itself, outside of any transaction.
const isPool = (session) => typeof session.totalCount === 'number';

/** `source`: a Pool or Client of pg, or a function of the call's arguments that returns the one that is about to read. */
export function pg(source) {
  const sessionOf = (args) => (typeof source === 'function' ? source(...args) : source);
  return {
    mayHaveWritten: (args) => !isPool(sessionOf(args)),
    token: (args) => ask(sessionOf(args), TOKEN_SQL),
    stillReading: async (args) => isPool(sessionOf(args)) || ask(sessionOf(args), WROTE_NOTHING_SQL),
  };
}
