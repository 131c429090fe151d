import { codes } from './errors.js';
import { SyncObject } from './object.js';
/** One JSON value that many share. */
export class SyncDocument extends SyncObject {
    #data;
    /** Use RoostClient.sync. */
    constructor(centrifuge, opened, maxQueue, closed) {
        super(centrifuge, opened, maxQueue, closed);
        this.#data = opened.data ?? null;
    }
    /** The value as of the last event. It must not be changed. */
    get data() { return this.#data; }
    /** Replaces the value. */
    set(data, options) { return this.write('set', { data }, options); }
    /** Sets members of a value that is an object; null takes one away. */
    merge(data, options) { return this.write('merge', { data }, options); }
    /** Replaces the value by what change makes of it. If somebody else writes meanwhile, change is called again with the new value. */
    async mutate(change, options) {
        let [data, revision] = [this.#data, this.revision];
        for (;;) {
            try {
                return await this.set(change(structuredClone(data)), { ...options, ifRevision: revision });
            }
            catch (error) {
                if (error.code !== codes.wrongRevision)
                    throw error;
                const now = await this.call('get', {});
                [data, revision] = [now.data ?? null, now.object.revision];
            }
        }
    }
    /** Reads what it was before, the latest first: 10, at most 100. */
    async history(limit = 10) { return (await this.call('history', { limit })).revisions; }
    apply(e, about) {
        if (e.type !== 'updated')
            return undefined;
        this.#data = e.data ?? null;
        return () => this.emit('updated', { ...about, data: e.data ?? null, previous: e.previous ?? null, revision: e.revision ?? 0 });
    }
    reset(opened) { this.#data = opened.data ?? null; }
}
