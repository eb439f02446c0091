import type { Cluster, Redis } from 'ioredis';

export interface Codec<T = any> {
  dumps(value: T): string | Uint8Array;
  loads(stored: Buffer): T;
}
export const JSON_VALUES: Codec;
export const TEXT: Codec<string>;
export const BYTES: Codec<Buffer>;

/** Where a token is asked for; each method is given the arguments of the call. */
export interface Snapshot {
  mayHaveWritten(args: any[]): boolean;
  token(args: any[]): Promise<string | null>;
  stillReading(args: any[]): Promise<boolean>;
}
interface Queryable {
  query(text: string): Promise<{ rows: any[] }>;
}
/** A Pool or Client of pg, or a function of the call's arguments that returns the one that is about to read. */
export function pg(source: Queryable | ((...args: any[]) => Queryable)): Snapshot;
export const TOKEN_SQL: string;

export interface Options {
  ttlMs?: number;
  /** The rule says tags_mode: lazy. */
  lazy?: boolean;
  codec?: Codec;
  /** How long others wait for a reader that died, at most. */
  leaseMs?: number;
  /** How long to wait for another reader's value before asking the database. */
  waitMs?: number;
  /** Shortens the lifetime by up to so many percent. */
  jitter?: number;
  /** The beta of evictd_get's EARLY. */
  early?: number;
  /** false: wait for the reader that refreshes a stale value. */
  serveStale?: boolean;
}
type Name<Args extends any[]> = string | null | ((...args: Args) => string | null);

export class Cache {
  constructor(client: Redis | Cluster, options: Options & { snapshot: Snapshot; warn?: (text: string) => void });
  readonly counts: Record<string, number>;
  cached<Args extends any[], Value>(
    options: Options & {
      key: Name<Args>;
      tags?: Name<Args>[] | ((...args: Args) => (string | null)[]);
      snapshot?: Snapshot;
    },
    make: (...args: Args) => Promise<Value>,
  ): (...args: Args) => Promise<Value>;
}

type Row = string | number | bigint | boolean | Record<string, string | number | bigint | boolean>;
export function rowTag(table: string, row: Row): string;
export function uses(table: string, ...rows: Row[]): void;
export function dependsOn(...tags: string[]): void;

export class WrongName extends Error {}
export class WrongCall extends Error {}
