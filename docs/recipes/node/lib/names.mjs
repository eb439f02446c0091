// The names that evictd knows: of keys, their markers and tags. Pure. Texts; keys of other bytes than UTF-8 are not made here.

/** A key that evictd could not know by the same name: a mistake in the program, never cached. */
export class WrongName extends Error {}

/** What Redis Cluster takes the slot from: what is between the first braces, when there is something. */
export function hasHashTag(name) {
  const open = name.indexOf('{');
  return open >= 0 && name.indexOf('}', open + 1) > open + 1;
}

/** The marker of a key or of a tag's set: its small companion, in the same slot. */
export const markerOf = (name) => (hasHashTag(name) ? `evictd:${name}` : `evictd:{${name}}`);

/** The whole key: the client's prefix and the name. */
export function checkKey(prefix, name) {
  const key = prefix + name;
  if (typeof name !== 'string' || key === '' || key.startsWith('evictd:') || key.startsWith('tag:')) {
    throw new WrongName(`expected the key of a cached value, got ${JSON.stringify(name)}`);
  }
  return key;
}

/** The set of the keys that carry a tag. */
export const tagSet = (tag) => `tag:${tag}`;

/** The tag's marker: of a lazy tag all there is. */
export const tagMarker = (tag) => markerOf(tagSet(tag));
