// What the package promises, each case by itself. Run by test_node_package.py.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { BYTES, Cache, TEXT, WrongCall, WrongName, dependsOn, pg, rowTag, uses } from 'evictd-reader';
import { Redis } from 'ioredis';
import postgres from 'pg';

const connect = (options = {}) => new Redis(Number(process.env.REDIS_PORT), options);
const redis = connect();
const pool = new postgres.Pool({ connectionString: process.env.POSTGRES_URL, max: 3 });
const SEES_ALL = '4000000:4000000:';
const always = (token = SEES_ALL) => ({ mayHaveWritten: () => false, token: async () => token, stillReading: async () => true });
const cacheOf = (client, options = {}) => new Cache(client, { snapshot: always(), warn: () => {}, ...options });

async function storedOnce(cache, options, value) {
  let calls = 0;
  const read = cache.cached(options, async () => {
    calls += 1;
    return value;
  });
  const first = await read();
  const second = await read();
  assert.equal(calls, 1, `it was not cached: ${JSON.stringify(cache.counts)}`);
  assert.deepEqual(first, second);
  return second;
}

async function withClient(use) {
  const client = new postgres.Client(process.env.POSTGRES_URL);
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

// A cluster's client: one slot for each call. cluster.mjs asks a real one.
function fakeCluster(answers = {}) {
  const replies = { evictd_get: [Buffer.from('miss'), null, Buffer.from('lease'), null], evictd_join: 1, evictd_fill: 1, evictd_seen: 1, ...answers };
  const called = [];
  return {
    isCluster: true, options: {}, called,
    async sendCommand(command) {
      called.push(command.args);
      return replies[command.args[0]];
    },
  };
}

const cases = {
  async 'the examples of the readme run'() {
    const blocks = [...readFileSync(process.env.README, 'utf8').matchAll(/^```js\n(.*?)^```/gms)].map((match) => match[1]);
    assert.equal(blocks.length, 2);
    const port = process.env.REDIS_PORT;
    writeFileSync('readme.mjs', blocks.join('\n').replace('new Redis({', `new Redis({ port: ${port},`).replace('enableOfflineQueue: false', 'enableOfflineQueue: true')
      .replace('new postgres.Pool()', `new postgres.Pool({ connectionString: '${process.env.POSTGRES_URL}' })`) + '\nprocess.exit(0);\n');
    const said = execFileSync(process.execPath, ['readme.mjs'], { encoding: 'utf8' });
    assert.match(said, /name: 'Product 7', price_cents: 700/);
    assert.equal(await redis.exists('product:7', 'order:1'), 2);
    assert.deepEqual(await redis.smembers('tag:row:reviews:product_id=2'), ['order:1']);
  },

  async 'the marker is the one that Redis knows'() {
    for (const key of ['plain', '{user:7}:cart', 'user:{7}', 'a{}b', 'a{}{b}', '{', 'a}b{c', 'schlüssel:ß', 'with space', 'a\nb']) {
      assert.equal(await storedOnce(cacheOf(redis), { key: `product:${key}`, tags: [key, '{braces}'] }, 'v'), 'v', key);
      assert.equal(await redis.get(`product:${key}`), '"v"');
    }
  },

  async "a client's prefix stands before the key and inside the marker"() {
    for (const keyPrefix of ['shop:', Buffer.from('shop2:')]) {
      const cache = cacheOf(connect({ keyPrefix }));
      assert.equal(await storedOnce(cache, { key: 'product:1', tags: ['shop:t'] }, 'v'), 'v');
      assert.equal(await redis.get(`${keyPrefix}product:1`), '"v"');
      assert.equal(await redis.exists(`evictd:{${keyPrefix}product:1}`), 1);
      assert.equal(await redis.sismember('tag:shop:t', `${keyPrefix}product:1`), 1, 'tags are as the rules spell them');
      assert.equal(await redis.exists('product:1', `${keyPrefix}evictd:{product:1}`), 0);
      cache.client.disconnect();
    }
  },

  async 'a client that prefixes in another way is an error and fills nothing'() {
    const prefixing = { options: {}, sendCommand: (command) => {
      const count = Number(command.args[1]);
      for (let i = 2; i < 2 + count; i++) command.args[i] = `other:${command.args[i]}`;
      return redis.sendCommand(command);
    } };
    await assert.rejects(cacheOf(prefixing).cached({ key: 'product:1' }, async () => 'never')(), (error) => error instanceof WrongCall &&
      /expected 'evictd:\{other:product:1\}' as the marker of 'other:product:1'/.test(error.message));
    assert.equal(await redis.exists('other:product:1'), 0);
  },

  async 'any bytes come back'() {
    const value = Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256));
    assert.deepEqual(await storedOnce(cacheOf(redis), { key: 'product:bytes', codec: BYTES }, value), value);
    assert.deepEqual(await storedOnce(cacheOf(redis), { key: 'product:bytes:lazy', codec: BYTES, lazy: true, tags: ['a\nb', 'c'] }, value), value);
    assert.deepEqual(await redis.getBuffer('product:bytes'), value);
  },

  async 'null and undefined are cached, and all callers see what the cache would give'() {
    assert.equal(await storedOnce(cacheOf(redis), { key: 'product:null' }, null), null);
    assert.equal(await storedOnce(cacheOf(redis), { key: 'product:undefined' }, undefined), null);
    assert.deepEqual(await storedOnce(cacheOf(redis), { key: 'product:date' }, { at: new Date(0) }), { at: '1970-01-01T00:00:00.000Z' });
  },

  async 'a null in a key caches nothing, and as a tag leaves it out'() {
    let calls = 0;
    const read = cacheOf(redis).cached({ key: (a) => (a === null ? null : `product:of:${a}`), tags: [(a, b) => (b === null ? null : `of:${b}`)] }, async () => ++calls);
    assert.deepEqual([await read(null, 1), await read(null, 1)], [1, 2]);
    await read('x', null);
    assert.equal(await redis.exists('product:of:x'), 1);
  },

  async 'what cannot be read is made anew'() {
    const cache = cacheOf(redis);
    await redis.mset('product:old', 'not json', 'product:old:lazy', 'no line of tags');
    assert.deepEqual(await storedOnce(cache, { key: 'product:old' }, { a: 1 }), { a: 1 });
    assert.deepEqual(await storedOnce(cache, { key: 'product:old:lazy', lazy: true }, { a: 1 }), { a: 1 });
    assert.equal(cache.counts.unreadableValues, 2);
  },

  async 'mistakes of the program are told'() {
    const cache = cacheOf(redis);
    assert.throws(() => new Cache(redis, {}), /expected a snapshot/);
    assert.throws(() => cache.cached({ key: 'k', ttl: 5 }, async () => 1), /there is no option 'ttl'/);
    assert.throws(() => cache.cached({ key: 'k', ttlMs: 0.5 }, async () => 1), /expected ttlMs of at least 1/);
    assert.throws(() => cache.cached({ key: 'k', jitter: 101 }, async () => 1), /expected a jitter of 0 to 100/);
    for (const key of ['evictd:{x}', 'tag:x', '', 7]) await assert.rejects(cache.cached({ key }, async () => 1)(), WrongName);
    assert.throws(() => rowTag('t', 1.5), /expected a text, an integer or a boolean/);
    assert.throws(() => rowTag('t', { a: 1, b: 2 }), /expected a row's key or one column/);
    await cache.cached({ key: 'product:many', tags: () => Array.from({ length: 501 }, (_, i) => `t${i}`) }, async () => 1)();
    assert.equal(cache.counts.tooManyTags, 1);
    assert.equal(await redis.exists('product:many'), 0);
  },

  async 'what a transaction wrote itself is not cached, and nobody waits'() {
    await withClient(async (client) => {
      const read = cacheOf(redis).cached({ key: 'note:written', snapshot: pg((session) => session) },
        async (session) => (await session.query('select body from notes')).rows[0].body);
      await client.query('begin');
      await client.query("update notes set body = 'mine'");
      assert.equal(await read(client), 'mine');
      assert.equal(await redis.exists('note:written'), 0);
      const reply = await redis.fcall('evictd_get', 2, 'note:written', 'evictd:{note:written}', 'LEASE', 10);
      assert.equal(reply[0], 'miss', 'no lease was taken for nothing');
      await client.query('rollback');
      await pause(20);
      assert.notEqual(await read(client), 'mine');
      assert.equal(await redis.exists('note:written'), 1);
    });
  },

  async 'a function that writes is not cached'() {
    await withClient(async (client) => {
      const cache = cacheOf(redis, { snapshot: pg(client) });
      await client.query('begin');
      await cache.cached({ key: 'note:writes' }, async () => (await client.query("update notes set body = 'mine' returning body")).rows[0].body)();
      assert.equal(await redis.exists('note:writes'), 0);
      assert.equal(cache.counts.notFilledAfterAWrite, 1);
      await client.query('rollback');
    });
  },

  async 'an old REPEATABLE READ transaction claims no more than it sees'() {
    await withClient(async (client) => {
      await client.query('begin isolation level repeatable read');
      await client.query('select 1 from notes');
      const { rows } = await pool.query("update products set price_cents = price_cents + 1 where id = 90 returning pg_current_xact_id()::text as xid");
      const key = 'product:90';
      await redis.fcall('evictd_invalidate', 2, key, `evictd:{${key}}`, rows[0].xid);
      const cache = cacheOf(redis, { snapshot: pg(client) });
      await cache.cached({ key }, async () => (await client.query('select price_cents from products where id = 90')).rows[0])();
      assert.equal(cache.counts.refused, 1);
      assert.equal(await redis.exists(key), 0);
      await client.query('rollback');
    });
  },

  async 'a value is never made from another one in the cache'() {
    const cache = cacheOf(redis);
    let calls = 0;
    const inner = cache.cached({ key: 'product:inner', tags: ['of:inner'] }, async () => {
      uses('variants', 17, { product_id: 7 });
      return ++calls;
    });
    const outer = cache.cached({ key: 'product:outer' }, async () => inner());
    assert.deepEqual([await inner(), await inner(), await outer(), await outer()], [1, 1, 2, 2]);
    for (const tag of ['of:inner', 'row:variants:17', 'row:variants:product_id=7']) {
      assert.deepEqual((await redis.smembers(`tag:${tag}`)).sort(), ['product:inner', 'product:outer'], tag);
    }
    uses('variants', 17); // outside of a cached function: nothing
  },

  async 'what is made at the same time is kept apart'() {
    const read = cacheOf(redis).cached({ key: (n) => `product:apart:${n}` }, async (n) => {
      await Promise.all([1, 2, 3].map(async (i) => {
        await pause(i);
        uses('parts', 10 * n + i);
      }));
      return n;
    });
    assert.deepEqual(await Promise.all([read(1), read(2)]), [1, 2]);
    for (const n of [1, 2]) for (const i of [1, 2, 3]) assert.deepEqual(await redis.smembers(`tag:row:parts:${10 * n + i}`), [`product:apart:${n}`]);
  },

  async 'a lazy value is asked for the tags that it has'() {
    let value = 'first';
    const read = (options) => {
      const cache = cacheOf(redis, { lazy: true, codec: TEXT, ...options });
      return [cache, cache.cached({ key: 'product:lazy' }, async () => {
        dependsOn('row:a:1', 'row:b:2');
        return value;
      })];
    };
    assert.equal(await read()[1](), 'first');
    value = 'second';
    const [other, get] = read();
    assert.equal(await get(), 'first');
    assert.deepEqual(other.counts, { hits: 1 });
    await redis.set('evictd:{tag:row:b:2}', 't e/1 4000001'); // as an invalidation that the value has not seen
    const [third, again] = read({ snapshot: always('4000005:4000005:') });
    assert.deepEqual([await again(), await again()], ['second', 'second']);
    assert.deepEqual(third.counts, { stale: 1, fills: 1, hits: 1 });
  },

  async 'on a cluster tags are joined before the fill, each in its slot'() {
    for (const [lazy, names] of [[false, ['tag:t', 'evictd:{tag:t}']], [true, ['evictd:{tag:t}']]]) {
      const client = fakeCluster();
      assert.equal(await cacheOf(client, { lazy }).cached({ key: 'product:1', tags: ['t'], ttlMs: 5000 }, async () => 7)(), 7);
      const [get, join, fill] = client.called;
      assert.deepEqual(get, ['evictd_get', '2', 'product:1', 'evictd:{product:1}', 'LEASE', '2000', ...(lazy ? ['DATED', '1'] : [])]);
      assert.deepEqual(join, ['evictd_join', String(names.length), ...names, 'product:1', '5000', SEES_ALL]);
      assert.deepEqual(fill.slice(0, 4), ['evictd_fill', '2', 'product:1', 'evictd:{product:1}']);
    }
  },

  async 'on a cluster nothing is filled under a tag that was invalidated'() {
    const client = fakeCluster({ evictd_join: 0 });
    const cache = cacheOf(client);
    assert.equal(await cache.cached({ key: 'product:1', tags: ['t'] }, async () => 7)(), 7);
    assert.deepEqual(client.called.map((words) => words[0]), ['evictd_get', 'evictd_join']);
    assert.deepEqual(cache.counts, { misses: 1, refused: 1 });
  },

  async 'on a cluster a lazy value is held against each of its tags'() {
    for (const [seen, version, value] of [[1, '1:2:', 1], [0, '1:2:', 2], [1, '-', 2], [1, null, 2]]) {
      const client = fakeCluster({ evictd_get: [Buffer.from('fresh'), Buffer.from('["t"]\n1'), null, version && Buffer.from(version)], evictd_seen: seen });
      assert.equal(await cacheOf(client, { lazy: true }).cached({ key: 'product:1' }, async () => 2)(), value);
    }
  },
};

for (const [name, run] of Object.entries(cases)) {
  console.log(name);
  await run();
}
console.log('all cases hold');
process.exit(0);
