// A value made from many rows, with evictd: ioredis and pg. Whoever makes it tells each row that it used (docs/readers.md).
//   await read(cache, database, 'page:3', async (session, uses) => {
//     uses('categories:3');            // the rule: {table: categories, tags: ["row:categories:{id}"], fill: checked}
//     uses('products:category_id=3');  // whatever product comes to this category
//     ...
//   });
import { setTimeout as pause } from 'node:timers/promises';

export async function read(cache, database, key, load, ttlMs = 600_000) {
  const marker = /^[^{]*\{[^}]+\}/.test(key) ? `evictd:${key}` : `evictd:{${key}}`; // "{user:7}:cart" has its own braces
  const names = [key, marker];
  let state = 'busy', value, lease, failed = true;
  try {
    for (let attempt = 0; state === 'busy' && attempt < 100; attempt++) {
      if (attempt) await pause(10); // another reader loads it: a second at most, then without the cache
      [state, value, lease] = await cache.fcall('evictd_get', 2, ...names, 'LEASE', 2000);
    }
    if (value !== null && !lease) return value; // fresh, or stale while another reader refreshes it
  } catch { lease = null; } // without Redis, the database answers
  const began = performance.now();
  const session = await database.connect();
  try {
    await session.query('begin isolation level repeatable read, read only'); // one snapshot for all of its SELECTs
    const { token } = (await session.query(`select pg_current_snapshot()::text as token`)).rows[0];
    value = await load(session, (row) => names.push(`tag:row:${row}`));
    await session.query('commit');
    failed = false;
    const fill = [...names, token, ttlMs, value, 'AGE', Math.round(performance.now() - began)];
    if (lease) await cache.fcall('evictd_fill', names.length, ...fill).catch(() => {}); // not cached this time
  } finally { session.release(failed); }
  return value;
}
