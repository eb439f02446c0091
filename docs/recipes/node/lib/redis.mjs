// Calls of evictd's functions over ioredis: as bytes, and with the names as they are.
import { Command } from 'ioredis';

/**
 * Redis refused a call as one that could never be right: a mistake in the program or its settings, such as a client that puts a
 * prefix before every key, and so before a marker.
 */
export class WrongCall extends Error {}

/**
 * A command made here, not by the client's methods, gets no keyPrefix: that would stand before the markers as well. The reply is
 * bytes, for a value is whatever bytes it is.
 */
export async function call(client, name, keys, args) {
  const command = new Command('fcall', [name, keys.length, ...keys, ...args].map((word) => (Buffer.isBuffer(word) ? word : String(word))),
    { replyEncoding: null });
  try {
    return await client.sendCommand(command);
  } catch (error) {
    if (/^(ERR )?expected /.test(error.message)) throw new WrongCall(error.message, { cause: error });
    throw error;
  }
}

/** The client's own keyPrefix, which the rules spell in their keys too. */
export const prefixOf = (client) => String(client.options?.keyPrefix ?? '');

export const isCluster = (client) => client.isCluster === true;
