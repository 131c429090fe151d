import { type About, type RawEvent, SyncObject } from './object.js'
import type { JSONValue, Message, ObjectEvents } from './types.js'

/** Events of a stream. */
export interface StreamEvents extends ObjectEvents { message: Message }

/** Messages to whoever follows it at the moment. They are not kept, and not sent again: who is offline misses them. */
export class SyncStream extends SyncObject<StreamEvents> {
  /** Sends a message. */
  async publish (data: JSONValue): Promise<void> { await this.call('stream.publish', { data }, 1) }

  protected apply (e: RawEvent, about: About): (() => void) | undefined {
    return e.type === 'message' ? () => this.emit('message', { ...about, data: e.data ?? null }) : undefined
  }

  protected reset (): void {} // it has no state
}
