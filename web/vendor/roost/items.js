import { codes } from './errors.js';
import { SyncObject } from './object.js';
const SEEN = 10_000; // items that are kept for get
/** What maps and lists have in common. */
export class SyncItems extends SyncObject {
    #seen = new Map();
    at(key) { return typeof key === 'number' ? { index: key } : { key }; }
    /** Returns an item, undefined if it is not there. One that was seen is followed and need not be asked for. */
    async get(key) {
        const seen = this.#seen.get(key);
        if (seen && this.synced)
            return seen;
        try {
            const { item, position } = await this.call('get', this.at(key));
            const own = this.#item(item);
            if (position.event >= this.event)
                this.#see(own);
            return own;
        }
        catch (error) {
            const { code } = error;
            if (code === codes.unknownItem || code === codes.badIndex)
                return undefined;
            throw error;
        }
    }
    /** Sets an item. */
    set(key, data, options) {
        return this.write(`${this.prefix}.set`, { ...this.at(key), data }, options);
    }
    /** Sets members of an item that is an object; null takes one away. */
    merge(key, data, options) {
        return this.write(`${this.prefix}.merge`, { ...this.at(key), data }, options);
    }
    /** Removes an item. */
    delete(key, options) { return this.write(`${this.prefix}.delete`, this.at(key), options); }
    /** Says in how many seconds an item is removed; 0 is never. */
    setItemTTL(key, ttl, options) { return this.write('set_ttl', { ...this.at(key), ttl }, options); }
    /** Replaces an item by what change makes of it; undefined stands for one that is not there. If somebody else writes meanwhile, it is called again. */
    async mutate(key, change, options) {
        for (let item = await this.get(key);; item = await this.get(key)) {
            try {
                return await this.set(key, change(structuredClone(item?.data)), { ...options, ifRevision: item?.revision ?? 0 });
            }
            catch (error) {
                if (error.code !== codes.wrongRevision)
                    throw error;
                this.#seen.delete(key);
            }
        }
    }
    /** Reads a page of items, in the order of keys or indexes. */
    query(options = {}) { return this.#page({ ...options }); }
    async #page(params) {
        const answer = await this.call('query', params);
        const items = answer.items.map((item) => this.#item(item));
        if (answer.position.event >= this.event)
            items.forEach((item) => this.#see(item));
        const { cursor } = answer;
        return { items, event: answer.position.event, ...(cursor ? { next: () => this.#page({ ...params, cursor }) } : {}) };
    }
    /** Reads all items, page by page: for await (const item of map) … */
    async *[Symbol.asyncIterator]() {
        for (let page = await this.query({ limit: 1000 }); page; page = await page.next?.())
            yield* page.items;
    }
    /** Counts the items, at the service. */
    async count() { return (await this.call('get', {})).count ?? 0; }
    #item(raw) {
        return {
            key: (raw.key ?? raw.index),
            data: raw.data,
            revision: raw.revision,
            dateUpdated: raw.date_updated,
            ...(raw.date_expires ? { dateExpires: raw.date_expires } : {}),
            ...(raw.actor ? { actor: raw.actor } : {})
        };
    }
    #see(item) {
        this.#seen.delete(item.key); // so that it is the latest
        this.#seen.set(item.key, item);
        if (this.#seen.size > SEEN)
            this.#seen.delete(this.#seen.keys().next().value);
    }
    apply(e, about) {
        const key = (e.key ?? e.index);
        if (e.type === 'item_removed') {
            this.#seen.delete(key);
            return () => this.emit('itemRemoved', { ...about, key, previous: e.previous ?? null, reason: e.reason ?? 'user' });
        }
        if (e.type !== 'item_added' && e.type !== 'item_updated')
            return undefined;
        const { data = null, revision = 0 } = e;
        this.#see(this.#item({
            ...(e.key === undefined ? {} : { key: e.key }),
            ...(e.index === undefined ? {} : { index: e.index }),
            data,
            revision,
            date_updated: about.date,
            ...(e.date_expires === undefined ? {} : { date_expires: e.date_expires }),
            ...(about.actor === undefined ? {} : { actor: about.actor })
        }));
        if (e.type === 'item_added')
            return () => this.emit('itemAdded', { ...about, key, data, revision });
        return () => this.emit('itemUpdated', { ...about, key, data, revision, previous: e.previous ?? null });
    }
    reset(_) { this.#seen.clear(); }
}
/** JSON values by key. */
export class SyncMap extends SyncItems {
    prefix = 'map';
    /** Adds an item; codes.itemExists if it is there. */
    insert(key, data, options) {
        return this.write('map.insert', { key, data }, options);
    }
}
/** JSON values by index, which the service assigns. */
export class SyncList extends SyncItems {
    prefix = 'list';
    /** Adds items to the end, up to 100 at once; the answer has the index of the first. */
    push(...items) { return this.pushAll(items); }
    /** Adds items to the end, as push does; ifRevision is that of the list. */
    pushAll(items, options) { return this.write('list.push', { items }, options); }
}
