// Cache-aside with evictd, for ioredis and pg: see README.md.
export { Cache } from './lib/cache.mjs';
export { BYTES, JSON_VALUES, TEXT } from './lib/codecs.mjs';
export { dependsOn, rowTag, uses } from './lib/dependencies.mjs';
export { WrongName } from './lib/names.mjs';
export { WrongCall } from './lib/redis.mjs';
export { TOKEN_SQL, pg } from './lib/snapshots.mjs';
