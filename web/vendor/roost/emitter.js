/** Calls listeners in the order in which they came. */
export class Emitter {
    #listeners = new Map();
    /** Has listener called with each event of a type; returns the function that ends that. */
    on(type, listener) {
        let all = this.#listeners.get(type);
        if (!all)
            this.#listeners.set(type, all = new Set());
        all.add(listener);
        return () => this.off(type, listener);
    }
    /** Ends what on began. */
    off(type, listener) {
        this.#listeners.get(type)?.delete(listener);
    }
    /** Calls the listeners. One that throws does not keep the others from being called; its error is thrown later, on its own. */
    emit(type, event) {
        for (const listener of [...this.#listeners.get(type) ?? []]) {
            try {
                listener(event);
            }
            catch (error) {
                queueMicrotask(() => { throw error; });
            }
        }
    }
}
