// What a value was made from, told by the function that makes it, while it does, at any depth.
import { AsyncLocalStorage } from 'node:async_hooks';

const loading = new AsyncLocalStorage();

function textOf(value) {
  if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'bigint' || Number.isSafeInteger(value)) return String(value);
  throw new TypeError(`expected a text, an integer or a boolean in a tag, got ${String(value)}: render it as the rule does`);
}

/** 'row:variants:17'; rowTag('reviews', { product_id: 7 }) is 'row:reviews:product_id=7', for rows that may come. */
export function rowTag(table, row) {
  if (row === null || typeof row !== 'object') return `row:${table}:${textOf(row)}`;
  const columns = Object.entries(row);
  if (columns.length !== 1) throw new TypeError("expected a row's key or one column, as in rowTag('reviews', { product_id: 7 })");
  return `row:${table}:${columns[0][0]}=${textOf(columns[0][1])}`;
}

/** The value being made depends on these rows, or on every row of the table with that value in that column. */
export function uses(table, ...rows) {
  dependsOn(...rows.map((row) => rowTag(table, row)));
}

/** The value being made is to go when one of these tags is invalidated. Outside of a cached function: nothing. */
export function dependsOn(...tags) {
  const told = loading.getStore();
  if (told) for (const tag of tags) told.add(tag);
}

/**
 * Whether a cached function is making its value here. Others that it calls must not answer from the cache then: what they hold may
 * be older than the snapshot that the value will claim.
 */
export const isLoading = () => loading.getStore() !== undefined;

/** -> [value, tags that it told] */
export async function load(make) {
  const told = new Set();
  return [await loading.run(told, make), [...told]];
}
