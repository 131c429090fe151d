import { Centrifuge, type Options } from 'centrifuge'
import { RoostClient, type SyncOptions } from './core.js'

export * from './core.js'

/**
 * Makes a client and connects it. url is that of the gateway, such as wss://example.com/connection/websocket; options are those of
 * Centrifuge, such as getToken, and in Node websocket, a class like that of the package ws.
 */
export function createClient (url: string, options: Partial<Options> & SyncOptions = {}): RoostClient {
  const { maxQueue, ...own } = options
  const client = new RoostClient(new Centrifuge(url, own), maxQueue === undefined ? {} : { maxQueue })
  client.connect()
  return client
}
