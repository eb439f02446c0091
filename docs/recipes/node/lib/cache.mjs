// One read through the cache. The order is what makes it safe: the lease, the token, the function, then the fill, with AGE counted from
// the token. What decides about it is here; lib/redis.mjs and lib/snapshots.mjs carry it out.
import { setTimeout as pause } from 'node:timers/promises';
import { JSON_VALUES } from './codecs.mjs';
import { dependsOn, isLoading, load } from './dependencies.mjs';
import { checkKey, markerOf, tagMarker, tagSet } from './names.mjs';
import { WrongCall, call, isCluster, prefixOf } from './redis.mjs';

const BUSY_PAUSE_MS = 10;
const TAGS_MAX = 500; // of one value: each costs Redis a few microseconds at every fill
const LOOKUPS_MAX = 4; // of one read of a lazy value whose tags change while it is looked at
const REMEMBERED_MAX = 10_000; // keys whose lazy tags a process remembers
const WARNING_PAUSE_MS = 60_000;

const DEFAULTS = { ttlMs: 600_000, lazy: false, codec: JSON_VALUES, leaseMs: 2000, waitMs: 1000, jitter: 0, early: 0, serveStale: true };

function checked(options) {
  for (const name of Object.keys(options)) if (!(name in DEFAULTS)) throw new TypeError(`there is no option '${name}'`);
  const all = { ...DEFAULTS, ...options };
  if (!(Number.isSafeInteger(all.ttlMs) && all.ttlMs >= 1)) throw new RangeError(`expected ttlMs of at least 1, got ${all.ttlMs}`);
  if (!(all.jitter >= 0 && all.jitter <= 100)) throw new RangeError(`expected a jitter of 0 to 100 percent, got ${all.jitter}`);
  return all;
}

const sameSet = (some, others) => some.length === others.length && some.every((one) => others.includes(one));

export class Cache {
  /**
   * client: of ioredis, with a timeout of its own (commandTimeout). Its keyPrefix, if it has one, stands before every key.
   * snapshot: where a token is asked for, see lib/snapshots.mjs.
   * warn: what is told of errors, once a minute for each kind.
   * The other options are defaults of cached().
   */
  constructor(client, { snapshot, warn = console.warn, ...options }) {
    if (!snapshot) throw new TypeError('expected a snapshot, as in new Cache(redis, { snapshot: pg(pool) })');
    this.client = client;
    this.snapshot = snapshot;
    this.options = options;
    /** hits, stale, misses, busy, fills, refused, redisErrors, ... of this process. */
    this.counts = {};
    this._warn = warn;
    this._warned = new Map();
    this._tags = new Map();
    checked(options);
  }

  /**
   * Keeps what an asynchronous function returns. `key` and each of `tags` are texts, or functions of its arguments; null: there is no
   * such key (evictd makes none of a NULL), nothing is cached. Spelled as the rule spells them. `tags` may be one function that returns
   * all of them. More may be told by the function while it runs: uses(), dependsOn().
   */
  cached({ key, tags = [], snapshot = this.snapshot, ...options }, make) {
    const settings = checked({ ...this.options, ...options });
    const rendered = (template, args) => (typeof template === 'function' ? template(...args) : template);
    const cache = this;
    return async function (...args) {
      const name = rendered(key, args);
      const list = (typeof tags === 'function' ? tags(...args) : tags.map((tag) => rendered(tag, args))).filter((tag) => tag != null);
      const run = () => make.apply(this, args);
      if (isLoading() || name == null) {
        dependsOn(...list);
        return run();
      }
      const plan = { ...settings, key: checkKey(prefixOf(cache.client), name), tags: [...new Set(list)], isCluster: isCluster(cache.client) };
      return cache._read(plan, run, snapshot, args);
    };
  }

  async _read(plan, run, snapshot, args) {
    let found;
    let began;
    let token = null;
    const take = async () => {
      began = performance.now();
      token = await snapshot.token(args);
    };
    if (snapshot.mayHaveWritten(args)) {
      // There may be no token, and then no fill: a lease would be held for nothing, and others would wait for its end.
      found = await this._lookUp({ ...plan, leaseMs: 0 });
      if (found.wantsLease) {
        await take();
        found = token === null ? {} : await this._lookUp(plan);
      }
    } else {
      found = await this._lookUp(plan);
      if (found.mayFill) await take();
    }
    if ('value' in found) return found.value;
    const [value, told] = await load(run);
    const payload = Buffer.from(plan.codec.dumps(value));
    if (found.mayFill && token !== null) {
      if (await snapshot.stillReading(args)) {
        await this._fill(plan, token, began, payload, [...new Set([...plan.tags, ...told])]);
      } else {
        this._count('notFilledAfterAWrite');
      }
    }
    return plan.codec.loads(payload);
  }

  // -> { value } to serve, or whether the caller's own is to be filled, or, without leases, whether one is to be had.
  async _lookUp(plan) {
    let asked = (plan.lazy && this._tags.get(plan.key)) || plan.tags;
    const giveUp = performance.now() + plan.waitMs;
    for (let lookups = 1; ;) {
      const reply = await this._answer(this._get(plan, asked));
      if (!reply) return {};
      const state = reply[0].toString();
      const [, stored, lease, version] = reply;
      if (!plan.leaseMs && (state === 'stale' || state === 'miss')) return { wantsLease: true };
      if (state === 'busy' || (state === 'stale' && !lease && !plan.serveStale)) {
        if (performance.now() >= giveUp) {
          this._count('busy');
          return {};
        }
        await pause(BUSY_PAUSE_MS);
        continue;
      }
      if (stored === null || lease) {
        this._count(state === 'stale' ? 'stale' : 'misses');
        return { mayFill: Boolean(lease) };
      }
      try {
        const [tags, payload] = this._unpacked(plan, stored);
        if (plan.lazy) {
          if (plan.isCluster) {
            if (!(await this._allSeen(tags, version))) {
              this._count('stale');
              return { mayFill: true };
            }
          } else if (!sameSet(tags, asked)) {
            // It is to be asked for the tags that it has: no others make it stale, and none may be left out.
            if (lookups++ === LOOKUPS_MAX) return {};
            asked = tags;
            continue;
          }
          this._remember(plan.key, tags);
        }
        const value = plan.codec.loads(payload);
        this._count(state === 'stale' ? 'stale' : 'hits');
        return { value };
      } catch (error) {
        if (error instanceof WrongCall) throw error;
        this._tell('unreadableValues', `'${plan.key}' is made anew: ${error.message}`); // of another version of the program, perhaps
        return { mayFill: true };
      }
    }
  }

  // began: when the token was asked for, by performance.now().
  async _fill(plan, token, began, payload, tags) {
    if (tags.length > TAGS_MAX) {
      this._tell('tooManyTags', `'${plan.key}' is not cached: it has ${tags.length} tags, expected at most ${TAGS_MAX}`);
      return;
    }
    if (plan.isCluster && tags.length) {
      const joined = await Promise.all(tags.map((tag) => this._answer(call(this.client, 'evictd_join',
        plan.lazy ? [tagMarker(tag)] : [tagSet(tag), tagMarker(tag)], [plan.key, plan.ttlMs, token]))));
      if (joined.some((reply) => reply !== 1)) {
        this._count('refused');
        return;
      }
    }
    const value = plan.lazy ? Buffer.concat([Buffer.from(JSON.stringify(tags) + '\n'), payload]) : payload;
    const options = ['AGE', Math.floor(performance.now() - began), ...(plan.jitter ? ['JITTER', plan.jitter] : [])];
    const reply = await this._answer(call(this.client, 'evictd_fill', this._names(plan, tags), [token, plan.ttlMs, value, ...options]));
    if (reply === 1) {
      this._count('fills');
      if (plan.lazy) this._remember(plan.key, tags);
    } else if (reply !== null) {
      this._count('refused');
    }
  }

  _names(plan, tags) {
    const names = [plan.key, markerOf(plan.key)];
    return plan.isCluster ? names : [...names, ...tags.map(plan.lazy ? tagMarker : tagSet)];
  }

  _get(plan, tags) {
    const lease = plan.leaseMs ? ['LEASE', plan.leaseMs, ...(plan.early ? ['EARLY', plan.early] : [])] : [];
    const dated = plan.isCluster && plan.lazy ? ['DATED', 1] : [];
    return call(this.client, 'evictd_get', this._names(plan, tags), [...lease, ...dated]);
  }

  // On a cluster, where a tag is in another slot than the key.
  async _allSeen(tags, version) {
    if (!tags.length) return true;
    if (!version || version.toString() === '-') return false;
    const seen = await Promise.all(tags.map((tag) => this._answer(call(this.client, 'evictd_seen', [tagMarker(tag)], [version]))));
    return seen.every((reply) => reply === 1);
  }

  // A lazy value begins with a line of its tags, so that whoever reads it knows what to ask for.
  _unpacked(plan, stored) {
    if (!plan.lazy) return [plan.tags, stored];
    const end = stored.indexOf('\n');
    const tags = JSON.parse(stored.subarray(0, end < 0 ? 0 : end).toString());
    if (!Array.isArray(tags) || tags.some((tag) => typeof tag !== 'string')) throw new Error('it does not begin with the line of its tags');
    return [tags, stored.subarray(end + 1)];
  }

  // The reply, or null when there is none: then the database answers, and nothing is cached this time.
  async _answer(reply) {
    try {
      return await reply;
    } catch (error) {
      if (error instanceof WrongCall) throw error;
      this._tell('redisErrors', `read from the database, not cached: ${error.message}`);
      return null;
    }
  }

  _remember(key, tags) {
    this._tags.delete(key);
    this._tags.set(key, tags);
    if (this._tags.size > REMEMBERED_MAX) this._tags.delete(this._tags.keys().next().value);
  }

  _count(what) {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  _tell(what, text) {
    this._count(what);
    const now = performance.now();
    if (now - (this._warned.get(what) ?? -WARNING_PAUSE_MS) < WARNING_PAUSE_MS) return;
    this._warned.set(what, now);
    this._warn(`evictd-reader: ${text}`);
  }
}
