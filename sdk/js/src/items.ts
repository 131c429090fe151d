import { codes, type RoostError } from './errors.js'
import { type About, type Opened, type RawEvent, SyncObject } from './object.js'
import type { Item, ItemAdded, ItemRemoved, ItemUpdated, JSONValue, KeyOption, ObjectEvents, QueryOptions, WriteOptions, Written } from './types.js'

/** Events of maps and lists. */
export interface ItemEvents<Key extends string | number> extends ObjectEvents {
  itemAdded: ItemAdded<Key>
  itemUpdated: ItemUpdated<Key>
  itemRemoved: ItemRemoved<Key>
}

/** An item as the service tells it. */
interface RawItem {
  key?: string
  index?: number
  data: JSONValue
  revision: number
  date_updated: number
  date_expires?: number
  actor?: string
}

/** One page of a query. */
export interface Page<Key extends string | number> {
  items: Array<Item<Key>>
  /** Number of the last event that they contain. */
  event: number
  /** Reads the next page; undefined behind the last. */
  next?: () => Promise<Page<Key>>
}

const SEEN = 10_000 // items that are kept for get

/** What maps and lists have in common. */
export abstract class SyncItems<Key extends string | number> extends SyncObject<ItemEvents<Key>> {
  #seen = new Map<Key, Item<Key>>()
  protected abstract readonly prefix: 'map' | 'list'

  protected at (key: Key): { key: string } | { index: number } { return typeof key === 'number' ? { index: key } : { key } }

  /** Returns an item, undefined if it is not there. One that was seen is followed and need not be asked for. */
  async get (key: Key): Promise<Item<Key> | undefined> {
    const seen = this.#seen.get(key)
    if (seen && this.synced) return seen
    try {
      const { item, position } = await this.call<{ item: RawItem, position: { event: number } }>('get', this.at(key))
      const own = this.#item(item)
      if (position.event >= this.event) this.#see(own)
      return own
    } catch (error) {
      const { code } = error as RoostError
      if (code === codes.unknownItem || code === codes.badIndex) return undefined
      throw error
    }
  }

  /** Sets an item. */
  set (key: Key, data: JSONValue, options?: WriteOptions): Promise<Written> {
    return this.write(`${this.prefix}.set`, { ...this.at(key), data }, options)
  }

  /** Sets members of an item that is an object; null takes one away. */
  merge (key: Key, data: { [name: string]: JSONValue }, options?: WriteOptions): Promise<Written> {
    return this.write(`${this.prefix}.merge`, { ...this.at(key), data }, options)
  }

  /** Removes an item. */
  delete (key: Key, options?: Omit<WriteOptions, 'ttl'>): Promise<Written> { return this.write(`${this.prefix}.delete`, this.at(key), options) }

  /** Says in how many seconds an item is removed; 0 is never. */
  setItemTTL (key: Key, ttl: number, options?: KeyOption): Promise<Written> { return this.write('set_ttl', { ...this.at(key), ttl }, options) }

  /** Replaces an item by what change makes of it; undefined stands for one that is not there. If somebody else writes meanwhile, it is called again. */
  async mutate (key: Key, change: (data: JSONValue | undefined) => JSONValue, options?: Omit<WriteOptions, 'ifRevision' | 'idempotencyKey'>): Promise<Written> {
    for (let item = await this.get(key); ; item = await this.get(key)) {
      try {
        return await this.set(key, change(structuredClone(item?.data)), { ...options, ifRevision: item?.revision ?? 0 })
      } catch (error) {
        if ((error as RoostError).code !== codes.wrongRevision) throw error
        this.#seen.delete(key)
      }
    }
  }

  /** Reads a page of items, in the order of keys or indexes. */
  query (options: QueryOptions<Key> = {}): Promise<Page<Key>> { return this.#page({ ...options }) }

  async #page (params: object): Promise<Page<Key>> {
    const answer = await this.call<{ items: RawItem[], cursor?: string, position: { event: number } }>('query', params)
    const items = answer.items.map((item) => this.#item(item))
    if (answer.position.event >= this.event) items.forEach((item) => this.#see(item))
    const { cursor } = answer
    return { items, event: answer.position.event, ...(cursor ? { next: () => this.#page({ ...params, cursor }) } : {}) }
  }

  /** Reads all items, page by page: for await (const item of map) … */
  async * [Symbol.asyncIterator] (): AsyncGenerator<Item<Key>> {
    for (let page: Page<Key> | undefined = await this.query({ limit: 1000 }); page; page = await page.next?.()) yield * page.items
  }

  /** Counts the items, at the service. */
  async count (): Promise<number> { return (await this.call<Opened>('get', {})).count ?? 0 }

  #item (raw: RawItem): Item<Key> {
    return {
      key: (raw.key ?? raw.index) as Key,
      data: raw.data,
      revision: raw.revision,
      dateUpdated: raw.date_updated,
      ...(raw.date_expires ? { dateExpires: raw.date_expires } : {}),
      ...(raw.actor ? { actor: raw.actor } : {})
    }
  }

  #see (item: Item<Key>): void {
    this.#seen.delete(item.key) // so that it is the latest
    this.#seen.set(item.key, item)
    if (this.#seen.size > SEEN) this.#seen.delete(this.#seen.keys().next().value as Key)
  }

  protected apply (e: RawEvent, about: About): (() => void) | undefined {
    const key = (e.key ?? e.index) as Key
    if (e.type === 'item_removed') {
      this.#seen.delete(key)
      return () => this.emit('itemRemoved', { ...about, key, previous: e.previous ?? null, reason: e.reason ?? 'user' })
    }
    if (e.type !== 'item_added' && e.type !== 'item_updated') return undefined
    const { data = null, revision = 0 } = e
    this.#see(this.#item({
      ...(e.key === undefined ? {} : { key: e.key }),
      ...(e.index === undefined ? {} : { index: e.index }),
      data,
      revision,
      date_updated: about.date,
      ...(e.date_expires === undefined ? {} : { date_expires: e.date_expires }),
      ...(about.actor === undefined ? {} : { actor: about.actor })
    }))
    if (e.type === 'item_added') return () => this.emit('itemAdded', { ...about, key, data, revision })
    return () => this.emit('itemUpdated', { ...about, key, data, revision, previous: e.previous ?? null })
  }

  protected reset (_: Opened): void { this.#seen.clear() }
}

/** JSON values by key. */
export class SyncMap extends SyncItems<string> {
  protected readonly prefix = 'map'

  /** Adds an item; codes.itemExists if it is there. */
  insert (key: string, data: JSONValue, options?: Omit<WriteOptions, 'ifRevision'>): Promise<Written> {
    return this.write('map.insert', { key, data }, options)
  }
}

/** JSON values by index, which the service assigns. */
export class SyncList extends SyncItems<number> {
  protected readonly prefix = 'list'

  /** Adds items to the end, up to 100 at once; the answer has the index of the first. */
  push (...items: JSONValue[]): Promise<Written> { return this.pushAll(items) }

  /** Adds items to the end, as push does; ifRevision is that of the list. */
  pushAll (items: JSONValue[], options?: WriteOptions): Promise<Written> { return this.write('list.push', { items }, options) }
}
