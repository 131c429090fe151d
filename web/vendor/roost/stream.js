import { SyncObject } from './object.js';
/** Messages to whoever follows it at the moment. They are not kept, and not sent again: who is offline misses them. */
export class SyncStream extends SyncObject {
    /** Sends a message. */
    async publish(data) { await this.call('stream.publish', { data }, 1); }
    apply(e, about) {
        return e.type === 'message' ? () => this.emit('message', { ...about, data: e.data ?? null }) : undefined;
    }
    reset() { } // it has no state
}
