// Shared state by the SDK in sdk/js. A scenario gets a harness with core, the SDK's module; it runs in Node and in a browser.
import { equal, range, refusal, sleep, until } from './harness.js'

/** A client of a user, with the Centrifuge client beneath it as link. */
async function join (harness, name) {
  const link = await harness.connect(name)
  return { link, sync: new harness.core.RoostClient(link).sync }
}

/** Notes all events of an object, as type and what matters of them. */
function journal (object, ...types) {
  const events = []
  for (const type of types) object.on(type, ({ event, date, actor, ...rest }) => events.push([type, rest]))
  return events
}

const got = (events, expected) => until(() => `${JSON.stringify(events)} must become ${JSON.stringify(expected)}`, () => events.length >= expected.length)
  .then(() => equal(events, expected, 'events'))

const code = async (promise, expected, what) => {
  const error = await refusal(promise, what)
  equal([error.name, error.code], ['RoostError', expected], `${what}: ${error.message}`)
  return error
}

export const scenarios = {
  async 'a document is shared' (harness) {
    const [ann, bob] = [await join(harness, 'ann'), await join(harness, 'bob')]
    const name = harness.channel('doc')
    const own = await ann.sync.document(name, { data: { n: 1 } })
    const other = await bob.sync.document(name, { data: { n: 100 } })
    equal(other.data, { n: 1 }, 'what it began with')
    const events = journal(other, 'updated')
    const written = await own.set({ n: 2, long: 'x'.repeat(1000) })
    equal(written.revision, 2, 'revision')
    await own.merge({ n: 3, long: null })
    await got(events, [
      ['updated', { data: { n: 2, long: 'x'.repeat(1000) }, previous: { n: 1 }, revision: 2 }],
      ['updated', { data: { n: 3 }, previous: { n: 2, long: 'x'.repeat(1000) }, revision: 3 }]
    ])
    equal([other.data, other.revision], [{ n: 3 }, 3], 'state')
    const error = await code(other.set({}, { ifRevision: 2 }), 1408, 'an old revision')
    equal(error.revision, 3, 'the current revision')
    equal((await other.history()).map(({ data }) => data.n), [3, 2, 1], 'history')
    await until('the own event', () => own.revision === 3)
    const removed = journal(other, 'removed')
    await own.remove()
    await got(removed, [['removed', { reason: 'user' }]])
    await code(other.set({}), 1402, 'a removed document')
  },

  async 'clients mutate a document at once' (harness) {
    const clients = await Promise.all(['ann', 'bob', 'cid'].map((name) => join(harness, name)))
    const docs = await Promise.all(clients.map(({ sync }) => sync.document(harness.channel('sum'), { data: { sum: 0 } })))
    await Promise.all(docs.flatMap((doc) => range(1, 10).map((n) => doc.mutate(({ sum }) => ({ sum: sum + n })))))
    for (const doc of docs) await until(() => JSON.stringify(doc.data), () => doc.data.sum === 3 * 55)
  },

  async 'a map is shared' (harness) {
    const [ann, bob] = [await join(harness, 'ann'), await join(harness, 'bob')]
    const own = await ann.sync.map(harness.channel('map'))
    const other = await bob.sync.map(harness.channel('map'))
    const events = journal(other, 'itemAdded', 'itemUpdated', 'itemRemoved')
    await own.set('a', 1)
    await code(own.insert('a', 2), 1407, 'an item that is there')
    await own.insert('b', { x: 1 })
    await own.merge('b', { y: 2 })
    await own.delete('a')
    await own.batch([{ op: 'map.set', key: 'c', data: 3 }, { op: 'map.delete', key: 'b' }])
    await got(events, [
      ['itemAdded', { key: 'a', data: 1, revision: 2 }],
      ['itemAdded', { key: 'b', data: { x: 1 }, revision: 3 }],
      ['itemUpdated', { key: 'b', data: { x: 1, y: 2 }, revision: 4, previous: { x: 1 } }],
      ['itemRemoved', { key: 'a', previous: 1, reason: 'user' }],
      ['itemAdded', { key: 'c', data: 3, revision: 6 }],
      ['itemRemoved', { key: 'b', previous: { x: 1, y: 2 }, reason: 'user' }]
    ])
    equal([(await other.get('c')).data, await other.get('a')], [3, undefined], 'items')
    await other.mutate('n', (n = 0) => n + 1)
    const { revision } = await other.mutate('n', (n = 0) => n + 1)
    await until('the last event', () => own.revision === revision)
    equal((await own.get('n')).data, 2, 'a mutated item')
    await Promise.all(range(1, 25).map((n) => own.set(`k${String(n).padStart(2, '0')}`, n)))
    const pages = []
    for (let page = await other.query({ from: 'k03', bounds: 'exclusive', limit: 10 }); page; page = await page.next?.()) pages.push(page.items.length)
    equal(pages, [10, 10, 3], 'pages')
    const all = []
    for await (const { key } of other) all.push(key)
    equal([all.length, all[0], await other.count()], [27, 'c', 27], 'all items')
    await own.set('short', 1, { ttl: 1 })
    await until('an item that expires', () => events.some(([type, { key, reason }]) => type === 'itemRemoved' && key === 'short' && reason === 'ttl'))
  },

  async 'a list is shared' (harness) {
    const [ann, bob] = [await join(harness, 'ann'), await join(harness, 'bob')]
    const own = await ann.sync.list(harness.channel('list'))
    const other = await bob.sync.list(harness.channel('list'))
    const events = journal(other, 'itemAdded', 'itemUpdated', 'itemRemoved')
    equal([(await own.push('a')).index, (await own.push('b', 'c')).index], [0, 1], 'indexes')
    await own.set(1, 'B')
    await own.delete(0)
    await until('five events', () => events.length >= 5)
    equal(events.map(([type, { key }]) => [type, key]), [['itemAdded', 0], ['itemAdded', 1], ['itemAdded', 2], ['itemUpdated', 1], ['itemRemoved', 0]], 'events')
    equal((await other.query({ order: 'desc' })).items.map(({ key, data }) => [key, data]), [[2, 'c'], [1, 'B']], 'items')
    await code(other.set(7, 1), 1410, 'an index out of range')
    equal(await other.get(0), undefined, 'an item that was removed')
  },

  async 'messages of a stream' (harness) {
    const [ann, bob] = [await join(harness, 'ann'), await join(harness, 'bob')]
    const own = await ann.sync.stream(harness.channel('stream'))
    const events = journal(await bob.sync.stream(harness.channel('stream')), 'message')
    for (const n of range(1, 5)) await own.publish(n)
    await got(events, range(1, 5).map((data) => ['message', { data }]))
  },

  async 'an object that was opened twice is one' (harness) {
    const { sync } = await join(harness, 'ann')
    const name = harness.channel('twice')
    const [first, second] = [await sync.map(name), await sync.map(name)]
    equal(first === second, true, 'the same')
    first.close()
    const events = journal(second, 'itemAdded')
    await second.set('k', 1)
    await got(events, [['itemAdded', { key: 'k', data: 1, revision: 2 }]])
    second.close()
    const again = await sync.map(name)
    equal((await again.get('k')).data, 1, 'opened again')
    equal((await sync.map(undefined, { id: again.id })) === again, true, 'by its id')
    await code(sync.map(name, { mode: 'create_new' }), 1405, 'one that is there')
    await code(sync.map(harness.channel('nothing'), { mode: 'open_existing' }), 1402, 'one that is not')
    equal((await sync.document()).name, undefined, 'one without a name')
  },

  async 'what was missed over a disconnect comes once and in order' (harness) {
    const [ann, bob] = [await join(harness, 'ann'), await join(harness, 'bob')]
    const own = await ann.sync.list(harness.channel('list'))
    const other = await bob.sync.list(harness.channel('list'))
    const events = journal(other, 'itemAdded', 'snapshot', 'state')
    await own.push(0)
    await until('the first', () => events.length === 1)
    bob.link.offline()
    for (const n of range(1, 50)) await own.push(n)
    bob.link.online()
    await own.push(51)
    await until(() => JSON.stringify(events.at(-1)), () => events.filter(([type]) => type === 'itemAdded').length >= 52)
    equal(events.filter(([type]) => type === 'itemAdded').map(([, { data }]) => data), range(0, 51), 'items')
    equal(events.filter(([type]) => type !== 'itemAdded').map(([type, { state }]) => [type, state]), [['state', 'offline'], ['state', 'synced']], 'other events')
  },

  async 'who missed too much gets a snapshot' (harness) {
    const [ann, bob] = [await join(harness, 'ann'), await join(harness, 'bob')]
    const own = await ann.sync.map(harness.channel('map'))
    const other = await bob.sync.map(harness.channel('map'))
    await own.set('k', 0)
    await until('the first', () => other.revision === 2)
    const events = journal(other, 'snapshot')
    bob.link.offline()
    await Promise.all(range(1, 300).map((n) => own.set('k', n)))
    bob.link.online()
    await until('a snapshot', () => events.length === 1)
    equal([(await other.get('k')).data, other.revision], [300, 302], 'state')
    await own.set('k', 301)
    await until('what follows', () => other.revision === 303)
    equal((await other.get('k')).data, 301, 'what follows')
  },

  async 'writes made offline are done when there is a connection, in their order' (harness) {
    const [ann, bob] = [await join(harness, 'ann'), await join(harness, 'bob')]
    const own = await ann.sync.list(harness.channel('list'))
    const other = await bob.sync.list(harness.channel('list'))
    ann.link.offline()
    await until('to be offline', () => ann.link.state !== 'connected')
    const writes = range(1, 20).map((n) => own.push(n))
    equal(own.pending, 20, 'those that wait')
    await sleep(50)
    ann.link.online()
    equal((await Promise.all(writes)).map(({ index }) => index), range(0, 19), 'indexes')
    equal((await other.query()).items.map(({ data }) => data), range(1, 20), 'items')
  },

  async 'the connection breaks over and over under writes' (harness) {
    const { link, sync } = await join(harness, 'ann')
    const list = await sync.list(harness.channel('list'))
    const writes = range(1, 200).map((n) => list.push(n))
    const done = Promise.all(writes)
    for (let broken = true; broken;) {
      broken = await Promise.race([done.then(() => false), sleep(30).then(() => true)])
      if (link.state === 'connected') link.snap()
    }
    const items = []
    for await (const { data } of list) items.push(data)
    equal(items, range(1, 200), 'each once, in order')
  },

  async 'who may do what' (harness) {
    const [ann, bob] = [await join(harness, 'ann'), await join(harness, 'bob')]
    const name = harness.channel('doc')
    const own = await ann.sync.document(name, { restricted: true })
    await code(bob.sync.document(name), 1403, 'who may not read')
    await own.grant(harness.user('bob'), { read: true })
    const other = await bob.sync.document(name)
    await code(other.set(1), 1403, 'who may not write')
    equal((await other.permissions()).yours, { read: true }, 'permissions')
    const states = journal(other, 'state')
    await own.revoke(harness.user('bob'))
    await until(() => JSON.stringify(states), () => states.some(([, { state, code }]) => state === 'refused' && code === 1403))
    equal(other.synced, false, 'synced')
  },

  async 'what a client wants done when it goes' (harness) {
    const [ann, bob] = [await join(harness, 'ann'), await join(harness, 'bob')]
    const own = await ann.sync.map(harness.channel('here'))
    const other = await bob.sync.map(harness.channel('here'))
    await own.set('ann', 'here')
    await own.onDisconnect([{ op: 'map.delete', key: 'ann' }])
    const events = journal(other, 'itemRemoved')
    ann.link.disconnect()
    await got(events, [['itemRemoved', { key: 'ann', previous: 'here', reason: 'user' }]])
  },

  async 'bad input' (harness) {
    const { sync } = await join(harness, 'ann')
    const map = await sync.map(harness.channel('map'))
    await code(map.set('', 1), 1412, 'no key')
    await code(map.set('k', 'x'.repeat(20_000)), 1401, 'too much')
    await code(map.set('k', 1, { ttl: -1 }), 1409, 'a negative ttl')
    await code(map.query({ limit: 0 }), 1400, 'a limit of none')
    await code(map.batch([{ op: 'map.set', key: 'k', data: 1 }, { op: 'nothing' }]), 1414, 'a batch with an unknown operation')
    equal(await map.count(), 0, 'nothing is half-written')
  }
}
