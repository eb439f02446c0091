// Reads pages of many rows through the recipe beside it: see tests/readers/drivers/README.md.
import { createInterface } from 'node:readline';
import { Redis } from 'ioredis';
import pg from 'pg';
import { read } from './row_tags.mjs';

const cache = new Redis(Number(process.env.REDIS_PORT), {
  maxRetriesPerRequest: 1, enableOfflineQueue: false, commandTimeout: 1000, lazyConnect: true,
});
cache.on('error', () => {});
await cache.connect();
const database = new pg.Pool({ connectionString: process.env.POSTGRES_URL, max: 1 });
const shown = (rows) => rows.map(({ a, b }) => `${a}@${b}`).join(' ');

const pageOf = (category) => async (session, uses) => {
  const rows = async (query, ...parameters) => (await session.query(query, parameters)).rows;
  uses(`categories:${category}`);
  const [{ name }] = await rows('select name from categories where id = $1', category);
  uses(`products:category_id=${category}`);
  const products = await rows('select id as a, price_cents as b from products where category_id = $1 order by id', category);
  for (const { a } of products) {
    uses(`products:${a}`);
    if (!('FORGET' in process.env)) uses(`reviews:product_id=${a}`);
  }
  const reviews = await rows('select product_id as a, count(*) as b from reviews where product_id = any($1) group by 1 order by 1',
    products.map(({ a }) => a));
  return [name, shown(products), shown(reviews)].join('|');
};

for await (const line of createInterface({ input: process.stdin })) {
  const key = line.trim();
  console.log(JSON.stringify(await read(cache, database, key, pageOf(Number(key.split(':')[1])))));
}
process.exit(0);
