// Reads keys through the installed package: see tests/readers/drivers/README.md. VARIANT says how.
import { createInterface } from 'node:readline';
import { Cache, TEXT, pg, uses } from 'evictd-reader';
import { Redis } from 'ioredis';
import postgres from 'pg';

const isPrefixed = process.env.VARIANT === 'prefix';
const redis = new Redis(Number(process.env.REDIS_PORT), {
  maxRetriesPerRequest: 1, enableOfflineQueue: false, commandTimeout: 1000, lazyConnect: true,
  ...(isPrefixed ? { keyPrefix: 'product:' } : {}),
});
redis.on('error', () => {});
await redis.connect();
const database = isPrefixed ? new postgres.Client(process.env.POSTGRES_URL)
  : new postgres.Pool({ connectionString: process.env.POSTGRES_URL, max: 3 });
if (isPrefixed) await database.connect();
const cache = new Cache(redis, { snapshot: pg(database) });

const load = async (id) => {
  const { rows } = await database.query("select coalesce((select row_to_json(p)::text from products p where id = $1), '') as value", [id]);
  return rows[0].value;
};
const product = cache.cached({ key: (id) => (isPrefixed ? id : `product:${id}`), codec: TEXT }, load);
const tagged = cache.cached({ key: (id) => `{product}:${id}`, codec: TEXT }, load);

// A page made by three SELECTs from rows of three tables; each row is told as it is used.
const lazy = 'LAZY' in process.env;
const page = cache.cached({ key: (category) => `page:${category}`, codec: TEXT, lazy }, async (category) => {
  const select = async (text, value) => (await database.query({ text, rowMode: 'array', values: [value] })).rows;
  uses('categories', category);
  const [[name]] = await select('select name from categories where id = $1', category);
  uses('products', { category_id: category }); // whatever product comes to this category
  const products = await select('select id, price_cents from products where category_id = $1 order by id', category);
  uses('products', ...products.map(([id]) => id));
  if (!('FORGET' in process.env)) uses('reviews', ...products.map(([id]) => ({ product_id: id })));
  const reviews = await select('select product_id, count(*) from reviews where product_id = any($1) group by 1 order by 1',
    products.map(([id]) => id));
  return [name, ...[products, reviews].map((rows) => rows.map(([a, b]) => `${a}@${b}`).join(' '))].join('|');
});

for await (const line of createInterface({ input: process.stdin })) {
  const [what, id] = line.trim().split(':');
  console.log(JSON.stringify(await (what === 'page' ? page(Number(id)) : what === '{product}' ? tagged(id) : product(id))));
}
process.exit(0);
