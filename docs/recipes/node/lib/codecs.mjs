// How a value becomes the bytes in Redis, and back: {dumps(value) -> Buffer or text, loads(Buffer) -> value}.

/** The default. null is 'null', so that a row that does not exist is cached too; undefined is cached as null. */
export const JSON_VALUES = {
  dumps: (value) => JSON.stringify(value === undefined ? null : value),
  loads: (stored) => JSON.parse(stored.toString()),
};

export const TEXT = {
  dumps(value) {
    if (typeof value !== 'string') throw new TypeError(`expected a text of a function cached with TEXT, got ${typeof value}`);
    return value;
  },
  loads: (stored) => stored.toString(),
};

export const BYTES = {
  dumps(value) {
    if (!(value instanceof Uint8Array)) throw new TypeError(`expected bytes of a function cached with BYTES, got ${typeof value}`);
    return Buffer.from(value);
  },
  loads: (stored) => stored,
};
