// Cache-aside with evictd: ioredis and pg. An empty text is a row that does not exist.
//   const cache = new Redis({ maxRetriesPerRequest: 1, enableOfflineQueue: false, commandTimeout: 1000 });
//   const database = new pg.Pool();
//   await read(cache, database, 'product:7', 'select row_to_json(p) from products p where id = $1', [7]);
import { setTimeout as pause } from 'node:timers/promises';

export async function read(cache, database, key, query, parameters, ttlMs = 600_000, tags = []) {
  const marker = /^[^{]*\{[^}]+\}/.test(key) ? `evictd:${key}` : `evictd:{${key}}`; // "{user:7}:cart" has its own braces
  const names = [key, marker, ...tags];
  let state = 'busy', value, lease;
  try {
    for (let attempt = 0; state === 'busy' && attempt < 100; attempt++) {
      if (attempt) await pause(10); // another reader loads it: a second at most, then without the cache
      [state, value, lease] = await cache.fcall('evictd_get', names.length, ...names, 'LEASE', 2000);
    }
    if (value !== null && !lease) return value; // fresh, or stale while another reader refreshes it
  } catch {
    lease = null; // without Redis, the database answers
  }
  const began = performance.now();
  const select = `select coalesce((${query})::text, '') as value, pg_current_snapshot()::text as token`;
  const row = (await database.query(select, parameters)).rows[0];
  if (lease) {
    const fill = [row.token, ttlMs, row.value, 'AGE', Math.round(performance.now() - began)];
    await cache.fcall('evictd_fill', names.length, ...names, ...fill).catch(() => {}); // not cached this time
  }
  return row.value;
}
