// Reads keys through the recipe beside it: see tests/readers/drivers/README.md.
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';
import pg from 'pg';
import { read } from './cache_aside.mjs';

const cache = new Redis(Number(process.env.REDIS_PORT), {
  maxRetriesPerRequest: 1, enableOfflineQueue: false, commandTimeout: 1000, lazyConnect: true,
});
cache.on('error', () => {});
await cache.connect();
const database = new pg.Pool({ connectionString: process.env.POSTGRES_URL, max: 1 });
const query = 'select row_to_json(p) from products p where id = $1';
for await (const line of createInterface({ input: process.stdin })) {
  const key = line.trim();
  console.log(JSON.stringify(await read(cache, database, key, query, [Number(key.split(':')[1])])));
}
process.exit(0);
