/** Calls listeners in the order in which they came. */
export class Emitter<Events extends object> {
  #listeners = new Map<keyof Events, Set<(event: never) => void>>()

  /** Has listener called with each event of a type; returns the function that ends that. */
  on<Type extends keyof Events> (type: Type, listener: (event: Events[Type]) => void): () => void {
    let all = this.#listeners.get(type)
    if (!all) this.#listeners.set(type, all = new Set())
    all.add(listener)
    return () => this.off(type, listener)
  }

  /** Ends what on began. */
  off<Type extends keyof Events> (type: Type, listener: (event: Events[Type]) => void): void {
    this.#listeners.get(type)?.delete(listener)
  }

  /** Calls the listeners. One that throws does not keep the others from being called; its error is thrown later, on its own. */
  protected emit<Type extends keyof Events> (type: Type, event: Events[Type]): void {
    for (const listener of [...this.#listeners.get(type) ?? []]) {
      try {
        (listener as (event: Events[Type]) => void)(event)
      } catch (error) {
        queueMicrotask(() => { throw error })
      }
    }
  }
}
