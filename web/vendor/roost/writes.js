import { asRoostError, mayRetry, RoostError } from './errors.js';
const FIRST_PAUSE = 50; // milliseconds
const LONGEST_PAUSE = 2000;
/** A key that no other write has. */
export function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
/**
 * The writes to one object, one after the other. While there is no connection they wait. One whose answer was lost is sent again until it
 * is answered, with the key it had, so that it happens once.
 */
export class Writes {
    #centrifuge;
    #limit;
    #queue = [];
    #busy = false;
    #closed = false;
    constructor(centrifuge, limit) {
        this.#centrifuge = centrifuge;
        this.#limit = limit;
    }
    /** How many wait or are under way. */
    get length() { return this.#queue.length; }
    /** Sends a write in its turn. */
    add(method, params) {
        if (this.#closed)
            return Promise.reject(new RoostError(0, 'the object was closed'));
        if (this.#queue.length >= this.#limit) {
            return Promise.reject(new RoostError(0, `${this.#limit} writes wait for the connection already (maxQueue)`));
        }
        return new Promise((resolve, reject) => {
            this.#queue.push({ method, params, resolve: resolve, reject });
            if (!this.#busy)
                void this.#run();
        });
    }
    /** Gives up what waits. */
    close() {
        this.#closed = true;
        for (const write of this.#queue.splice(0))
            write.reject(new RoostError(0, 'the object was closed; the write may have happened'));
    }
    async #run() {
        this.#busy = true;
        let pause = FIRST_PAUSE;
        for (let write = this.#queue[0]; write; write = this.#queue[0]) {
            try {
                await connected(this.#centrifuge);
                const { data } = await this.#centrifuge.rpc(write.method, write.params);
                write.resolve(data);
            }
            catch (error) {
                if (mayRetry(error) && !this.#closed) {
                    await new Promise((resolve) => setTimeout(resolve, pause));
                    pause = Math.min(2 * pause, LONGEST_PAUSE);
                    continue;
                }
                write.reject(asRoostError(error));
            }
            pause = FIRST_PAUSE;
            if (this.#queue[0] === write)
                this.#queue.shift();
        }
        this.#busy = false;
    }
}
/** Waits until there is a connection, however long that takes. */
function connected(centrifuge) {
    if (centrifuge.state === 'connected')
        return Promise.resolve();
    return new Promise((resolve) => centrifuge.once('connected', () => resolve()));
}
