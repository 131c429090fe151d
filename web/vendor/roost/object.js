import { Emitter } from './emitter.js';
import { callAgain } from './call.js';
import { codes, mayRetry, RoostError } from './errors.js';
import { newKey, Writes } from './writes.js';
const READ_PAUSE = 200; // milliseconds, when an object could not be read
/**
 * What documents, maps, lists and streams have in common. Its state follows the object's log: each event is applied once, in order, and
 * then told.
 */
export class SyncObject extends Emitter {
    /** The object's description, as of the last event. */
    info;
    /** Number of the last event that was applied. */
    event;
    /** Whether changes arrive as they happen. */
    synced = false;
    /** Whether the object is there no more. */
    isRemoved = false;
    #centrifuge;
    #subscription;
    #writes;
    #closed;
    #epoch;
    #behind = false; // events were missed, and the object was not read since
    #waiting; // while the object is read anew
    #users = 1;
    #ended = false; // it is not followed any more
    /** Use RoostClient.sync. */
    constructor(centrifuge, opened, maxQueue, closed) {
        super();
        this.info = opened.object;
        this.event = opened.position.event;
        this.#epoch = opened.position.epoch;
        this.#centrifuge = centrifuge;
        this.#closed = closed;
        this.#writes = new Writes(centrifuge, maxQueue);
        this.#subscription = centrifuge.newSubscription(opened.channel, {
            recoverable: true,
            since: { offset: this.event, epoch: this.#epoch },
            ...(opened.object.type === 'document' ? { delta: 'fossil' } : {})
        });
    }
    /** Id, which also backends know it by. */
    get id() { return this.info.id; }
    get name() { return this.info.name; }
    /** Goes up by one with each write. */
    get revision() { return this.info.revision; }
    /** Writes that wait for the connection, or for their answer. */
    get pending() { return this.#writes.length; }
    /** Begins to follow the log; resolves when it does. Called once, by the client. */
    follow() {
        const s = this.#subscription;
        s.on('publication', (context) => this.#take(context));
        s.on('subscribed', (context) => { void this.#subscribed(context); });
        s.on('subscribing', () => this.#state(false));
        return new Promise((resolve, reject) => {
            s.once('subscribed', () => resolve());
            s.on('unsubscribed', ({ code, reason }) => {
                this.#end();
                if (code === codes.unknownObject)
                    this.#gone();
                else if (code !== 0)
                    this.#refused(code, reason);
                reject(new RoostError(code, reason));
            });
            s.subscribe();
        });
    }
    /** Another part of the program uses the object, too: it is closed when all have called close. */
    retain() {
        this.#users++;
        return this;
    }
    /** Ends following. Writes that wait are given up. */
    close() {
        if (--this.#users > 0)
            return;
        this.#writes.close();
        this.#end();
    }
    /** Ends following. The object can be opened again. */
    #end() {
        if (this.#ended)
            return;
        this.#ended = true;
        this.synced = false;
        this.#subscription.unsubscribe();
        this.#centrifuge.removeSubscription(this.#subscription);
        this.#closed();
    }
    /** Does several write operations at once: all of them, or none. */
    batch(operations, options) { return this.write('batch', { operations }, options); }
    /**
     * Has write operations done when this connection ends, in the place of those it asked for before; none withdraws them. After a
     * reconnect the service knows of none: ask again when the centrifuge client says that it is connected.
     */
    onDisconnect(operations) { return this.call('on_disconnect', { operations }); }
    /** Says in how many seconds the object is removed; 0 is never. */
    setTTL(ttl, options) { return this.write('set_ttl', { ttl }, options); }
    /** Removes the object, for everyone. */
    remove(options) { return this.write('delete', {}, options); }
    /** Says what a user may do, * is everyone; that replaces what was said before. */
    grant(identity, grant, options) { return this.write('grant', { identity, ...grant }, options); }
    /** Takes from a user what it was granted. */
    revoke(identity, options) { return this.write('revoke', { identity }, options); }
    /** Turns permissions on or off. */
    restrict(restricted, options) { return this.write('restrict', { restricted }, options); }
    /** Reads who may do what. */
    permissions() { return this.call('permissions', {}); }
    /** Sends a write, in its turn. */
    write(op, params, { ttl, ifRevision, idempotencyKey } = {}) {
        return this.#writes.add(`sync.${op}`, {
            id: this.id,
            ...params,
            ...(ttl === undefined ? {} : { ttl }),
            ...(ifRevision === undefined ? {} : { if_revision: ifRevision }),
            idempotency_key: idempotencyKey ?? newKey()
        });
    }
    /** Calls an operation that does not write. If the connection is lost meanwhile it is called again, unless once must do. */
    call(op, params, tries) {
        return callAgain(this.#centrifuge, `sync.${op}`, { id: this.id, ...params }, tries);
    }
    #state(synced) {
        if (this.synced === synced)
            return;
        this.synced = synced;
        this.emit('state', { state: synced ? 'synced' : 'offline' });
    }
    async #subscribed(context) {
        if (context.wasRecovering && !context.recovered)
            this.#behind = true;
        if (this.#waiting)
            return; // it is read already, and once more if that was too early
        if (this.#behind)
            await this.#readAnew();
        if (!this.#behind && this.#subscription.state === 'subscribed')
            this.#state(true);
    }
    /** Reads the object, since the log does not reach back to what was seen last. What comes meanwhile waits. */
    async #readAnew() {
        const waiting = this.#waiting = [];
        let opened;
        try {
            opened = await this.#read();
        }
        catch (error) {
            const { code, message } = error;
            if (code === codes.unknownObject) {
                this.#behind = false; // it may be created again
                this.#gone();
            }
            else
                this.#refused(code, message);
        }
        this.#waiting = undefined;
        if (!opened)
            return;
        this.info = opened.object;
        this.event = opened.position.event;
        this.#epoch = opened.position.epoch;
        this.reset(opened);
        this.emit('snapshot', { event: this.event, date: Date.now() });
        for (const context of waiting)
            this.#take(context);
    }
    /** Reads the object until no event is missing; undefined if there is no subscription any more: the next one has it read. */
    async #read() {
        while (this.#subscription.state === 'subscribed') {
            this.#behind = false; // another miss says true again
            try {
                const opened = await this.call('open', { mode: 'open_existing' });
                if (!this.#behind)
                    return opened;
            }
            catch (error) {
                this.#behind = true;
                if (!mayRetry(error))
                    throw error;
                await new Promise((resolve) => setTimeout(resolve, READ_PAUSE));
            }
        }
        this.#behind = true;
        return undefined;
    }
    /** Tells that nothing follows any more. */
    #refused(code, message) {
        this.#end();
        this.emit('state', { state: 'refused', code, message });
    }
    #gone() {
        if (this.isRemoved)
            return;
        this.isRemoved = true;
        this.emit('removed', { event: this.event, date: Date.now(), reason: 'user' });
    }
    /** Takes one publication: an event of the log, or several that happened at once. All are applied before any is told. */
    #take(context) {
        if (this.#waiting) {
            this.#waiting.push(context);
            return;
        }
        const raw = context.data;
        if (context.offset) {
            if (context.offset <= this.event)
                return; // it is part of what was read
            this.event = context.offset;
        }
        const told = [];
        for (const each of raw.events ?? [raw]) {
            const about = { event: this.event, date: raw.date ?? Date.now(), ...(raw.actor === undefined ? {} : { actor: raw.actor }) };
            const tell = this.#apply(each, about);
            if (tell)
                told.push(tell);
        }
        for (const tell of told)
            tell();
    }
    #apply(e, about) {
        if (e.revision)
            this.info = { ...this.info, revision: e.revision, date_updated: about.date };
        switch (e.type) {
            case 'removed':
                this.isRemoved = true;
                return () => this.emit('removed', { ...about, reason: e.reason ?? 'user' });
            case 'created':
                this.isRemoved = false;
                this.reset({ object: this.info, position: { event: about.event, epoch: this.#epoch }, channel: '', ...(e.data === undefined ? {} : { data: e.data }), count: 0 });
                return () => this.emit('snapshot', about);
            case 'access':
                return () => this.emit('accessChanged', about);
            case 'ttl': {
                const key = e.key ?? e.index;
                if (key === undefined)
                    this.info = { ...this.info, date_expires: e.date_expires ?? 0 };
                return () => this.emit('ttlChanged', {
                    ...about, ...(key === undefined ? {} : { key }), ...(e.date_expires === undefined ? {} : { dateExpires: e.date_expires })
                });
            }
        }
        return this.apply(e, about);
    }
}
/** The parameters of open. */
export function openParams(type, name, options) {
    const { mode, id, ttl, data, restricted } = options;
    const given = Object.fromEntries(Object.entries({ ttl, data, restricted }).filter(([, value]) => value !== undefined));
    if (id !== undefined)
        return { id, mode: 'open_existing' };
    return {
        type,
        ...(name === undefined ? {} : { name }),
        mode: mode ?? (name === undefined ? 'create_new' : 'open_or_create'),
        ...given,
        idempotency_key: newKey() // it may be sent again
    };
}
