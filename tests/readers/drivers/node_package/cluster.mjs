// Over a cluster. Run by test_cluster_packages.py.
import assert from 'node:assert/strict';
import { Cache } from 'evictd-reader';
import { Redis } from 'ioredis';

const connect = (options = {}) => new Redis.Cluster([{ host: '127.0.0.1', port: Number(process.env.REDIS_PORT) }], options);
const always = (token) => ({ mayHaveWritten: () => false, token: async () => token, stillReading: async () => true });
const TOMBSTONE = 't 7312345678901234567/1 150';
const tags = Array.from({ length: 12 }, (_, i) => `row:things:${i}`); // in slots of every master, and none with the key

for (const keyPrefix of ['', 'shop:']) {
  const redis = connect({ keyPrefix });
  const plain = connect();
  for (const lazy of [false, true]) {
    const own = tags.map((tag) => `${keyPrefix}${lazy}:${tag}`);
    const cacheOf = (token) => new Cache(redis, { snapshot: always(token), lazy, warn: (text) => assert.fail(text) });
    const page = (cache, value) => cache.cached({ key: `node:${lazy}`, tags: own }, async () => value)();

    const cache = cacheOf('100:100:');
    assert.deepEqual([await page(cache, 1), await page(cache, 2)], [1, 1]);
    assert.deepEqual(cache.counts, { misses: 1, fills: 1, hits: 1 });
    assert.equal(await plain.exists(`${keyPrefix}node:${lazy}`), 1);
    assert.equal(await plain.exists(`evictd:{${keyPrefix}node:${lazy}}`), 1);

    await plain.set(`evictd:{tag:${own[7]}}`, TOMBSTONE, 'PX', 60_000);
    const late = cacheOf('100:100:');
    if (!lazy) await plain.unlink(`${keyPrefix}node:${lazy}`);
    assert.equal(await page(late, 3), 3);
    assert.equal(late.counts.refused, 1);
    const fresh = cacheOf('200:200:');
    if (!lazy) await plain.unlink(`evictd:{${keyPrefix}node:${lazy}}`); // with the lease of the fill that was refused
    assert.deepEqual([await page(fresh, 4), await page(fresh, 5)], [4, 4]);
  }
}
console.log('all cases hold');
process.exit(0);
