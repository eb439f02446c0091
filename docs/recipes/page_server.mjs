// Pages of products over HTTP, behind a CDN or Varnish that evictd purges: ioredis, pg, and node:http.
//   const cache = new Redis({ maxRetriesPerRequest: 1, enableOfflineQueue: false, commandTimeout: 1000 });
//   serve(cache, new pg.Pool(), 8080);
// The rule: {table: public.products, keys: ["product:{id}"], fill: checked, surrogate_keys: ["product-{id}"]}
import { createServer } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

const RELEASE = '1'; // of the code that makes a page of a row: another release makes another page
const FRESH = 'public, max-age=0, s-maxage=3600, stale-while-revalidate=30'; // browsers ask each time: nothing purges them
const QUERY = 'select row_to_json(p)::text as row, pg_current_snapshot()::text as token from products p where id = $1';

// A strong ETag; none of a version that two values may share.
const etagOf = (version) => (/^(v[!#-~]+|\d+:\d+:[\d,]*)$/.test(version ?? '') ? `"${RELEASE}-${version}"` : undefined);
// Where row versions are times.
const modifiedOf = (version) => (/^v\d{4}-\d\d-\d\dT/.test(version ?? '') ? new Date(version.slice(1)).toUTCString() : undefined);

// same: as the page of a version in `known`; unsure: may be shown, and not kept.
async function find(cache, database, query, number, known) {
  const names = [`product:${number}`, `evictd:{product:${number}}`];
  const unless = known.length ? ['UNLESS', known[0]] : [];
  let lease = null;
  try {
    for (let state = 'busy', attempt = 0; state === 'busy' && attempt < 100; attempt++) {
      if (attempt) await pause(10); // another request loads it: a second at most, then without the cache
      const [now, row, given, version] = await cache.fcall('evictd_get', 2, ...names, 'LEASE', 2000, ...unless);
      if (now === 'fresh' || now === 'same') return { state: now, row, version };
      if (now === 'stale' && !given) return { state: 'unsure', row }; // out of date, while another request refreshes it
      [state, lease] = [now, given];
    }
  } catch {
    lease = null; // without Redis, the database answers
  }
  const began = performance.now();
  const { row, token } = (await database.query(query, [number])).rows[0] ?? { row: null };
  if (row !== null && lease) {
    const fill = [token, 600_000, row, 'AGE', Math.round(performance.now() - began)];
    const stored = await cache.fcall('evictd_fill', 2, ...names, ...fill).catch(() => 0);
    if (stored) return { state: 'fresh', row, version: token.replace('v:', 'v') };
  }
  return { state: 'unsure', row };
}

async function answer(request, response, cache, database, query) {
  const number = /^\/products\/(\d{1,9})$/.exec(request.url)?.[1];
  const wanted = request.headers['if-none-match'] ?? '';
  const known = [...wanted.matchAll(new RegExp(`"${RELEASE}-([^"]*)"`, 'g'))].map((match) => match[1]);
  const found = number ? await find(cache, database, query, Number(number), known) : { state: 'unsure', row: null };
  const etag = etagOf(found.version);
  const isKnown = found.state === 'same' || (found.row !== null && ((etag && known.includes(found.version)) || wanted.trim() === '*'));
  // A 304 has what the 200 would have had, but for the body: whoever keeps the page goes on with it.
  const headers = {
    'Cache-Control': found.state === 'unsure' ? 'no-store' : FRESH,
    ETag: etag,
    'Last-Modified': modifiedOf(found.version),
    'Surrogate-Key': number && `product-${Number(number)}`,
    'Content-Type': isKnown ? undefined : found.row === null ? 'text/plain' : 'application/json',
  };
  for (const [name, value] of Object.entries(headers)) if (value) response.setHeader(name, value);
  response.statusCode = isKnown ? 304 : found.row === null ? 404 : 200;
  response.end(isKnown ? undefined : found.row ?? 'not found\n');
}

export function serve(cache, database, port, query = QUERY) {
  const server = createServer((request, response) =>
    answer(request, response, cache, database, query).catch(() => {
      if (!response.headersSent) response.writeHead(503, { 'Cache-Control': 'no-store' });
      response.end();
    }));
  return server.listen(port, '127.0.0.1');
}
