/** Any JSON value. */
export type JSONValue = null | boolean | number | string | JSONValue[] | { [name: string]: JSONValue }

/** Types of objects. */
export type ObjectType = 'document' | 'map' | 'list' | 'stream'

/** How an object is opened. */
export interface OpenOptions {
  /** Default: open_or_create. */
  mode?: 'open_or_create' | 'open_existing' | 'create_new'
  /** Id of an object that exists, instead of a name. */
  id?: string
  /** Seconds until it is removed, 0 is never; up to a year. Counts only where it is created. */
  ttl?: number
  /** What a document begins with; {} by default. */
  data?: JSONValue
  /** Whether only those may use it whom its creator, this client's user, grants it. Counts only where it is created. */
  restricted?: boolean
}

/** How something is written. */
export interface WriteOptions {
  /** Seconds until the item, or the document, is removed; 0 is never. Without it nothing changes about that. */
  ttl?: number
  /** Write only if this is the current revision; of an item that is not there it is 0. Else codes.wrongRevision. */
  ifRevision?: number
  /** Known to the service for the object's last 1,024 writes; made up by default. */
  idempotencyKey?: string
}

/** What writes take that have no conditions. */
export type KeyOption = Pick<WriteOptions, 'idempotencyKey'>

/** What a write came to. */
export interface Written {
  /** Number of its event in the object's log. */
  event: number
  epoch: string
  /** Of the object, after it. */
  revision: number
  /** Of what was pushed, or the first of it. */
  index?: number
  /** What a merge came to. */
  data?: JSONValue
  /** Of a batch, one for each operation. */
  results?: Array<{ index?: number }>
  /** It had been done before, by its idempotency key. */
  duplicate?: boolean
}

/** An operation of a batch, such as { op: 'map.set', key: 'k', data: 1 }; docs/sync.md has them all. */
export interface Operation {
  op: string
  key?: string
  index?: number
  data?: JSONValue
  items?: JSONValue[]
  ttl?: number
  if_revision?: number
  identity?: string
  read?: boolean
  write?: boolean
  manage?: boolean
  restricted?: boolean
}

/** What a user may do with a restricted object. */
export interface Grant { read?: boolean, write?: boolean, manage?: boolean }

/** Who may do what with an object. */
export interface Permissions {
  restricted: boolean
  created_by?: string
  /** By user, * is everyone. All of them for those who manage it, else what concerns this user. */
  permissions: Record<string, Grant>
  yours: Grant
}

/** A document as it was. */
export interface Revision { revision: number, data: JSONValue, date: number, actor?: string }

/** An item of a map, with a string as its key, or of a list, with its index. */
export interface Item<Key extends string | number> {
  readonly key: Key
  readonly data: JSONValue
  /** That the object had when the item was written last. */
  readonly revision: number
  /** When it was written last, in Unix milliseconds. */
  readonly dateUpdated: number
  /** When it will be removed. */
  readonly dateExpires?: number
  /** Who wrote it last. */
  readonly actor?: string
}

/** Which items a query returns, in which order. */
export interface QueryOptions<Key extends string | number> {
  order?: 'asc' | 'desc'
  from?: Key
  /** Whether from itself is among them. Default: inclusive. */
  bounds?: 'inclusive' | 'exclusive'
  /** Of a page; default 100, at most 1,000. */
  limit?: number
}

/** Common to all events. */
export interface SyncEvent {
  /** Number in the object's log; of messages and snapshots it is that of the last event. */
  readonly event: number
  /** Who did it, if a user did. */
  readonly actor?: string
  /** Unix milliseconds. */
  readonly date: number
}

/** A document was written. */
export interface Updated extends SyncEvent { readonly data: JSONValue, readonly previous: JSONValue, readonly revision: number }

/** An item was added. */
export interface ItemAdded<Key extends string | number> extends SyncEvent { readonly key: Key, readonly data: JSONValue, readonly revision: number }

/** An item was written. */
export interface ItemUpdated<Key extends string | number> extends ItemAdded<Key> { readonly previous: JSONValue }

/** An item was removed, by somebody or since its time was over. */
export interface ItemRemoved<Key extends string | number> extends SyncEvent { readonly key: Key, readonly previous: JSONValue, readonly reason: 'user' | 'ttl' }

/** A message of a stream. */
export interface Message extends SyncEvent { readonly data: JSONValue }

/** The object was removed. What is written to it from now on is refused. */
export interface Removed extends SyncEvent { readonly reason: 'user' | 'ttl' }

/** Events of every object. */
export interface ObjectEvents {
  removed: Removed
  /** So much was missed that the object was read anew. Items that were seen are forgotten: ask for them again. */
  snapshot: SyncEvent
  /** Somebody may do more or less with it. */
  accessChanged: SyncEvent
  /** The object, or an item, will be removed at another time, or never. */
  ttlChanged: SyncEvent & { readonly key?: string | number, readonly dateExpires?: number }
  /** Whether changes arrive as they happen: synced, or what was missed will follow: offline; or nothing follows any more, and why: refused. */
  state: { readonly state: 'synced' | 'offline' } | { readonly state: 'refused', readonly code: number, readonly message: string }
}
