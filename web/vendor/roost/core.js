import { callAgain } from './call.js';
import { SyncDocument } from './document.js';
import { SyncList, SyncMap } from './items.js';
import { openParams } from './object.js';
import { SyncStream } from './stream.js';
export * from './types.js';
export { codes, RoostError } from './errors.js';
export { SyncDocument } from './document.js';
export { SyncItems, SyncList, SyncMap } from './items.js';
export { SyncObject } from './object.js';
export { SyncStream } from './stream.js';
const classes = { document: SyncDocument, map: SyncMap, list: SyncList, stream: SyncStream };
/** Opens objects. Those that are open already are shared. */
export class Sync {
    #centrifuge;
    #maxQueue;
    #objects = new Map();
    /** Use RoostClient. */
    constructor(centrifuge, { maxQueue = 1000 } = {}) {
        this.#centrifuge = centrifuge;
        this.#maxQueue = maxQueue;
    }
    /** Opens a document, or creates it. Without a name it is a new one. */
    document(name, options = {}) { return this.#open('document', name, options); }
    /** Opens a map, or creates it. */
    map(name, options = {}) { return this.#open('map', name, options); }
    /** Opens a list, or creates it. */
    list(name, options = {}) { return this.#open('list', name, options); }
    /** Opens a stream, or creates it. */
    stream(name, options = {}) { return this.#open('stream', name, options); }
    async #open(type, name, options) {
        const opened = await callAgain(this.#centrifuge, 'sync.open', openParams(type, name, options));
        const there = this.#objects.get(opened.object.id);
        if (there)
            return (await there).retain();
        const own = this.#follow(opened);
        this.#objects.set(opened.object.id, own);
        return own;
    }
    async #follow(opened) {
        const forget = () => { this.#objects.delete(opened.object.id); };
        const object = new classes[opened.object.type](this.#centrifuge, opened, this.#maxQueue, forget);
        try {
            await object.follow();
        }
        catch (error) {
            object.close();
            throw error;
        }
        return object;
    }
}
/** A connection to the gateway, and what is shared over it. */
export class RoostClient {
    /** The Centrifuge client underneath: channels, presence, history, rpc. */
    centrifuge;
    /** Shared state. */
    sync;
    /** Uses a Centrifuge client for JSON, which others may use, too. See createClient in the package itself for one of its own. */
    constructor(centrifuge, options) {
        this.centrifuge = centrifuge;
        this.sync = new Sync(centrifuge, options);
    }
    /** Connects, and stays connected until disconnect. */
    connect() { this.centrifuge.connect(); }
    /** Ends the connection. Objects stay open, and go on where they were after another connect. */
    disconnect() { this.centrifuge.disconnect(); }
}
