import type { Centrifuge } from 'centrifuge'
import { codes, type RoostError } from './errors.js'
import { type About, type Opened, type RawEvent, SyncObject } from './object.js'
import type { JSONValue, ObjectEvents, Revision, Updated, WriteOptions, Written } from './types.js'

/** Events of a document. */
export interface DocumentEvents extends ObjectEvents { updated: Updated }

/** One JSON value that many share. */
export class SyncDocument extends SyncObject<DocumentEvents> {
  #data: JSONValue

  /** Use RoostClient.sync. */
  constructor (centrifuge: Centrifuge, opened: Opened, maxQueue: number, closed: () => void) {
    super(centrifuge, opened, maxQueue, closed)
    this.#data = opened.data ?? null
  }

  /** The value as of the last event. It must not be changed. */
  get data (): JSONValue { return this.#data }

  /** Replaces the value. */
  set (data: JSONValue, options?: WriteOptions): Promise<Written> { return this.write('set', { data }, options) }

  /** Sets members of a value that is an object; null takes one away. */
  merge (data: { [name: string]: JSONValue }, options?: WriteOptions): Promise<Written> { return this.write('merge', { data }, options) }

  /** Replaces the value by what change makes of it. If somebody else writes meanwhile, change is called again with the new value. */
  async mutate (change: (data: JSONValue) => JSONValue, options?: Omit<WriteOptions, 'ifRevision' | 'idempotencyKey'>): Promise<Written> {
    let [data, revision] = [this.#data, this.revision]
    for (;;) {
      try {
        return await this.set(change(structuredClone(data)), { ...options, ifRevision: revision })
      } catch (error) {
        if ((error as RoostError).code !== codes.wrongRevision) throw error
        const now = await this.call<Opened>('get', {});
        [data, revision] = [now.data ?? null, now.object.revision]
      }
    }
  }

  /** Reads what it was before, the latest first: 10, at most 100. */
  async history (limit = 10): Promise<Revision[]> { return (await this.call<{ revisions: Revision[] }>('history', { limit })).revisions }

  protected apply (e: RawEvent, about: About): (() => void) | undefined {
    if (e.type !== 'updated') return undefined
    this.#data = e.data ?? null
    return () => this.emit('updated', { ...about, data: e.data ?? null, previous: e.previous ?? null, revision: e.revision ?? 0 })
  }

  protected reset (opened: Opened): void { this.#data = opened.data ?? null }
}
