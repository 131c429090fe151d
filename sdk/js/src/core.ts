import type { Centrifuge } from 'centrifuge'
import { callAgain } from './call.js'
import { SyncDocument } from './document.js'
import { SyncList, SyncMap } from './items.js'
import { type Opened, openParams, type SyncObject } from './object.js'
import { SyncStream } from './stream.js'
import type { ObjectEvents, ObjectType, OpenOptions } from './types.js'

export * from './types.js'
export { codes, RoostError } from './errors.js'
export { SyncDocument, type DocumentEvents } from './document.js'
export { SyncItems, SyncList, SyncMap, type ItemEvents, type Page } from './items.js'
export { SyncObject, type ObjectInfo } from './object.js'
export { SyncStream, type StreamEvents } from './stream.js'

/** Options of this client. */
export interface SyncOptions {
  /** Writes to one object that may wait for the connection. Default: 1,000. */
  maxQueue?: number
}

const classes = { document: SyncDocument, map: SyncMap, list: SyncList, stream: SyncStream }

/** Opens objects. Those that are open already are shared. */
export class Sync {
  readonly #centrifuge: Centrifuge
  readonly #maxQueue: number
  readonly #objects = new Map<string, Promise<SyncObject<ObjectEvents>>>()

  /** Use RoostClient. */
  constructor (centrifuge: Centrifuge, { maxQueue = 1000 }: SyncOptions = {}) {
    this.#centrifuge = centrifuge
    this.#maxQueue = maxQueue
  }

  /** Opens a document, or creates it. Without a name it is a new one. */
  document (name?: string, options: OpenOptions = {}): Promise<SyncDocument> { return this.#open('document', name, options) }

  /** Opens a map, or creates it. */
  map (name?: string, options: OpenOptions = {}): Promise<SyncMap> { return this.#open('map', name, options) }

  /** Opens a list, or creates it. */
  list (name?: string, options: OpenOptions = {}): Promise<SyncList> { return this.#open('list', name, options) }

  /** Opens a stream, or creates it. */
  stream (name?: string, options: OpenOptions = {}): Promise<SyncStream> { return this.#open('stream', name, options) }

  async #open<Type extends ObjectType> (type: Type, name: string | undefined, options: OpenOptions): Promise<InstanceType<(typeof classes)[Type]>> {
    const opened = await callAgain<Opened>(this.#centrifuge, 'sync.open', openParams(type, name, options))
    type Own = InstanceType<(typeof classes)[Type]>
    const there = this.#objects.get(opened.object.id)
    if (there) return (await there).retain() as unknown as Own
    const own = this.#follow(opened)
    this.#objects.set(opened.object.id, own)
    return own as unknown as Promise<Own>
  }

  async #follow (opened: Opened): Promise<SyncObject<ObjectEvents>> {
    const forget = (): void => { this.#objects.delete(opened.object.id) }
    const object = new classes[opened.object.type](this.#centrifuge, opened, this.#maxQueue, forget) as unknown as SyncObject<ObjectEvents>
    try {
      await object.follow()
    } catch (error) {
      object.close()
      throw error
    }
    return object
  }
}

/** A connection to the gateway, and what is shared over it. */
export class RoostClient {
  /** The Centrifuge client underneath: channels, presence, history, rpc. */
  readonly centrifuge: Centrifuge
  /** Shared state. */
  readonly sync: Sync

  /** Uses a Centrifuge client for JSON, which others may use, too. See createClient in the package itself for one of its own. */
  constructor (centrifuge: Centrifuge, options?: SyncOptions) {
    this.centrifuge = centrifuge
    this.sync = new Sync(centrifuge, options)
  }

  /** Connects, and stays connected until disconnect. */
  connect (): void { this.centrifuge.connect() }

  /** Ends the connection. Objects stay open, and go on where they were after another connect. */
  disconnect (): void { this.centrifuge.disconnect() }
}
