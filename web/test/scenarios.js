// What applications do with the centrifuge SDK, one scenario each. They run in Node and in a browser, with JSON and with
// Protobuf, against the namespaces of sdk.test.js.
import { equal, once, range, refusal, sleep, until } from './harness.js'

const messaging = {
  async 'publish: subscribers and the publisher get the message with its author' (h) {
    const [ann, bob] = [await h.connect('ann', { token: await h.token('ann', { info: { name: 'Ann' } }) }), await h.connect('bob')]
    const channel = h.channel('room')
    const [atAnn, atBob] = [await h.subscribe(ann, channel), await h.subscribe(bob, channel)]
    const first = once(atBob, 'publication')
    await atAnn.publish(h.encode({ text: 'zwitschern, щебет, 🐦 "\\ \u2028' }))
    const { info, offset, channel: name } = await first
    equal([info.client, info.user, h.decode(info.connInfo)], [ann.id, h.user('ann'), { name: 'Ann' }], 'author')
    equal([offset, name], [1, channel], 'offset and channel')
    await bob.publish(channel, h.encode([1, null, true]))
    for (const subscription of [atAnn, atBob]) await h.got(subscription, [{ text: 'zwitschern, щебет, 🐦 "\\ \u2028' }, [1, null, true]])
  },

  async 'publish by API: to one channel and to many, without an author' (h) {
    const client = await h.connect()
    const channels = ['one', 'two'].map((name) => h.channel(name))
    const [one, two] = [await h.subscribe(client, channels[0]), await h.subscribe(client, channels[1])]
    const first = once(one, 'publication')
    const { offset, epoch } = await h.publish(channels[0], 'single')
    equal([offset, typeof epoch, epoch === ''], [1, 'string', false], 'position')
    equal((await first).info, undefined, 'author')
    const { responses } = await h.call('broadcast', { channels, data: 'both' })
    equal(responses.map(({ result }) => result.offset), [2, 1], 'offsets')
    await h.got(one, ['single', 'both'])
    await h.got(two, ['both'])
  },

  async 'publish by API: an idempotency key stands for one message' (h) {
    const channel = h.channel('keys')
    const subscription = await h.subscribe(await h.connect(), channel)
    const positions = []
    for (const key of ['a', 'a', 'b']) positions.push((await h.publish(channel, key, { idempotency_key: h.prefix + key })).offset)
    await h.got(subscription, ['a', 'b'])
    equal(positions, [1, 1, 2], 'offsets')
  },

  async 'publish by API: with skip_history only those who listen get it' (h) {
    const channel = h.channel('live')
    const subscription = await h.subscribe(await h.connect(), channel)
    await h.publish(channel, 'kept')
    await h.publish(channel, 'live', { skip_history: true })
    await h.publish(channel, 'kept too')
    await h.got(subscription, ['kept', 'live', 'kept too'])
    const { publications } = await subscription.history({ limit: 10 })
    equal(publications.map(({ data }) => h.decode(data)), ['kept', 'kept too'], 'history')
  },

  async 'publish: 500 messages from each of two clients arrive in order at both' (h) {
    const clients = [await h.connect('ann'), await h.connect('bob')]
    const channel = h.channel('busy')
    const subscriptions = [await h.subscribe(clients[0], channel), await h.subscribe(clients[1], channel)]
    if (h.transport) for (const client of clients) client.startBatching() // else each is a request of its own, and they may overtake each other
    const published = Promise.all(subscriptions.flatMap((subscription, from) => range(1, 500).map((number) => subscription.publish(h.encode([from, number])))))
    if (h.transport) for (const client of clients) client.stopBatching()
    await published
    for (const { got } of subscriptions) {
      await until('1,000 messages', () => got.length >= 1000)
      for (const from of [0, 1]) equal(got.filter(([sender]) => sender === from).map(([, number]) => number), range(1, 500), 'order')
    }
    equal(subscriptions[0].got, subscriptions[1].got, 'the same order for both')
  },

  async 'publish: data that is not JSON arrives byte by byte with Protobuf' (h) {
    if (!h.protobuf) return
    const channel = h.channel('bytes')
    const subscription = (await h.connect()).newSubscription(channel)
    const subscribed = once(subscription, 'subscribed')
    subscription.subscribe()
    await subscribed
    const bytes = Uint8Array.from(range(0, 255))
    const received = once(subscription, 'publication')
    await subscription.publish(bytes)
    equal([...(await received).data], [...bytes], 'bytes from a client')
    const again = once(subscription, 'publication')
    await h.call('publish', { channel, b64data: btoa(String.fromCharCode(...bytes)) })
    equal([...(await again).data], [...bytes], 'bytes from the API')
  },

  async 'channel names: wildcards, dots, spaces and all of Unicode are names like others' (h) {
    const client = await h.connect()
    const names = ['a.*', 'a.b', 'a.>', '>', '*', 'with space', 'tab\tand\nline', '..', 'ünïcødé 🐦', '$SYS', 'x'.repeat(150)]
    const subscriptions = []
    for (const name of names) subscriptions.push(await h.subscribe(client, h.channel(name)))
    for (const name of names) await h.publish(h.channel(name), name)
    for (const [index, name] of names.entries()) await h.got(subscriptions[index], [name], `message of ${JSON.stringify(name)}`)
  },

  async 'a batch of 100 subscriptions and publications in few frames' (h) {
    const client = await h.connect()
    const subscriptions = range(1, 100).map((number) => h.subscription(client, h.channel(number)))
    const all = Promise.all(subscriptions.map((subscription) => once(subscription, 'subscribed')))
    client.startBatching()
    for (const subscription of subscriptions) subscription.subscribe()
    client.stopBatching()
    await all
    client.startBatching()
    const published = Promise.all(subscriptions.map((subscription, index) => subscription.publish(h.encode(index))))
    client.stopBatching()
    await published
    for (const [index, subscription] of subscriptions.entries()) await h.got(subscription, [index])
  },

  async 'pings: a silent client stays connected over several of them' (h) {
    const client = await h.connect()
    await sleep(9000)
    equal(client.events, [['connecting', 0], ['connected', undefined]], 'states')
    await client.publish(h.channel('after'), h.encode('still here'))
  },

  async 'pings as WebSocket frames, when the address asks for them' (h) {
    const client = await h.connect('ann', {}, '?cf_ws_frame_ping_pong=true')
    await sleep(9000)
    equal(client.events, [['connecting', 0], ['connected', undefined]], 'states')
    await client.publish(h.channel('after'), h.encode('still here'))
  },

  async 'unsubscribe and subscribe again, also many times in a row' (h) {
    const client = await h.connect()
    const channel = h.channel('again')
    const subscription = await h.subscribe(client, channel)
    await h.publish(channel, 1)
    await h.got(subscription, [1])
    const gone = once(subscription, 'unsubscribed')
    subscription.unsubscribe()
    equal((await gone).code, 0, 'code')
    await client.presence(channel) // answered after the unsubscribe command
    await h.publish(channel, 2)
    const subscribed = once(subscription, 'subscribed')
    subscription.subscribe()
    await subscribed
    await h.publish(channel, 3)
    await until('the next message', () => subscription.got.at(-1) === 3)
    for (let times = 0; times < 50; times++) {
      subscription.unsubscribe()
      subscription.subscribe()
    }
    await subscription.ready()
    await subscription.publish(h.encode(4))
    await until('the last message', () => subscription.got.at(-1) === 4)
    equal([1, 3, 4].map((number) => subscription.got.filter((value) => value === number).length), [1, 1, 1], 'each once')
  }
}

const presence = {
  async 'presence and presence_stats: clients and users of a channel' (h) {
    const [ann, ann2, bob] = [await h.connect('ann'), await h.connect('ann'), await h.connect('bob', { token: await h.token('bob', { info: { n: 1 } }) })]
    const channel = h.channel('room')
    const subscription = await h.subscribe(ann, channel)
    await h.subscribe(ann2, channel)
    await h.subscribe(bob, channel)
    const { clients } = await subscription.presence()
    equal(Object.entries(clients).map(([id, { client, user }]) => [id, client, user]).sort(),
      [ann, ann2, bob].map(({ id }, index) => [id, id, h.user(['ann', 'ann', 'bob'][index])]).sort(), 'presence')
    equal(h.decode(clients[bob.id].connInfo), { n: 1 }, 'connection info')
    equal(await subscription.presenceStats(), { numClients: 3, numUsers: 2 }, 'stats')
    equal(Object.keys((await h.call('presence', { channel })).presence).sort(), [ann.id, ann2.id, bob.id].sort(), 'presence by API')
    bob.disconnect()
    let left
    await until(() => `two left, but ${JSON.stringify(left)}`, () => {
      ann.presence(channel).then(({ clients }) => { left = Object.keys(clients) }, () => {}) // the last may end with the client
      return left?.length === 2
    })
    equal(left.sort(), [ann.id, ann2.id].sort(), 'those who stayed')
    equal(await ann.presenceStats(channel), { numClients: 2, numUsers: 1 }, 'stats after')
  },

  async 'join and leave: seen by those who ask for them' (h) {
    const [ann, carl] = [await h.connect('ann'), await h.connect('carl')]
    const channel = h.channel('door')
    const subscription = await h.subscribe(ann, channel, { joinLeave: true })
    const deaf = await h.subscribe(carl, channel)
    const events = []
    for (const event of ['join', 'leave']) {
      subscription.on(event, ({ info }) => events.push([event, info.client, info.user]))
      deaf.on(event, () => events.push('seen by one who did not ask'))
    }
    const bob = await h.connect('bob')
    const atBob = await h.subscribe(bob, channel)
    const [other, own] = [[bob.id, h.user('bob')], [carl.id, h.user('carl')]]
    await until(() => `the join, got ${JSON.stringify(events)}`, () => events.some(([event, id]) => event === 'join' && id === bob.id))
    const unsubscribed = once(subscription, 'leave', ({ info }) => info.client === bob.id)
    atBob.unsubscribe()
    await unsubscribed
    const disconnected = once(subscription, 'leave', ({ info }) => info.client === carl.id)
    carl.disconnect()
    await disconnected
    equal(events.filter(([event, id]) => id !== ann.id && !(event === 'join' && id === carl.id)), [['join', ...other], ['leave', ...other], ['leave', ...own]], 'events')
  }
}

const history = {
  async 'history: limit, since, reverse, and the position alone' (h) {
    const channel = h.channel('past')
    const client = await h.connect()
    const subscription = await h.subscribe(client, channel)
    for (const number of range(1, 5)) await h.publish(channel, number)
    const read = async (options) => {
      const { publications, offset } = await subscription.history(options)
      equal(offset, 5, 'top offset')
      return publications.map(({ data, offset }) => [offset, h.decode(data)])
    }
    const { epoch } = await client.history(channel, { limit: 0 })
    const both = (...numbers) => numbers.map((number) => [number, number])
    equal(await read({ limit: 0 }), [], 'position alone')
    equal(await read({ limit: 10 }), both(1, 2, 3, 4, 5), 'all')
    equal(await read({ limit: 2 }), both(1, 2), 'the first two')
    equal(await read({ limit: 2, reverse: true }), both(5, 4), 'the last two')
    equal(await read({ limit: 2, since: { offset: 2, epoch } }), both(3, 4), 'since 2')
    equal(await read({ limit: 10, since: { offset: 3, epoch }, reverse: true }), both(2, 1), 'before 3')
    equal(await read({ limit: 10, since: { offset: 5, epoch } }), [], 'since the top')
    equal((await refusal(subscription.history({ limit: 1, since: { offset: 2, epoch: 'other' } }), 'a wrong epoch')).code, 112, 'code')
    await h.call('history_remove', { channel })
    equal(await read({ limit: 10 }), [], 'after its removal, with the same top')
  },

  async 'history: not more than the namespace keeps' (h) {
    const channel = h.channel('short', 'small')
    const subscription = await h.subscribe(await h.connect(), channel)
    for (const number of range(1, 12)) await h.publish(channel, number)
    const { publications } = await subscription.history({ limit: 100 })
    equal(publications.map(({ offset, data }) => [offset, h.decode(data)]), range(8, 12).map((number) => [number, number]), 'the last five')
  }
}

const forms = {
  async 'delta: changes of a document arrive as patches and make it whole' (h) {
    const channel = h.channel('document')
    const client = await h.connect()
    const subscription = await h.subscribe(client, channel, { delta: 'fossil' })
    const other = await h.subscribe(await h.connect('other'), channel)
    const text = (number) => ({ number, lines: range(1, 80).map((line) => `line ${line * (line === number ? 7 : 1)}: zwitschern "\\" щебет`) })
    for (const number of range(1, 4)) await h.publish(channel, text(number), { delta: true })
    await h.got(subscription, range(1, 4).map(text))
    await h.got(other, range(1, 4).map(text))
    equal([subscription.deltaStats().numPublications, subscription.deltaStats().numDeltaPayloads >= 3], [4, true], `patches: ${JSON.stringify(subscription.deltaStats())}`)
    client.offline()
    for (const number of range(5, 7)) await h.publish(channel, text(number), { delta: true })
    const again = once(subscription, 'subscribed')
    client.online()
    equal((await again).recovered, true, 'recovered')
    for (const number of range(8, 9)) await h.publish(channel, text(number), { delta: true })
    await h.publish(channel, 'something else entirely', { delta: true })
    await h.got(subscription, [...range(1, 9).map(text), 'something else entirely'])
  },

  async 'tags filter: only what matches, live and recovered' (h) {
    const channel = h.channel('tagged')
    const client = await h.connect()
    const filter = { op: 'or', nodes: [{ key: 'kind', cmp: 'eq', val: 'bird' }, { key: 'weight', cmp: 'gt', val: '9' }] }
    const subscription = await h.subscribe(client, channel, { tagsFilter: filter })
    const send = async (data, tags) => h.publish(channel, data, { tags })
    const tags = once(subscription, 'publication')
    await send(1, { kind: 'bird' })
    equal((await tags).tags, { kind: 'bird' }, 'tags')
    await send(2, { kind: 'fish' })
    await send(3, { kind: 'fish', weight: '10' })
    await h.publish(channel, 4)
    await send(5, { kind: 'bird' })
    await h.got(subscription, [1, 3, 5])
    client.offline()
    for (const number of range(6, 9)) await send(number, { kind: number % 2 ? 'bird' : 'fish' })
    const again = once(subscription, 'subscribed')
    client.online()
    equal((await again).recovered, true, 'recovered')
    await send(10, { kind: 'bird' })
    await h.got(subscription, [1, 3, 5, 7, 9, 10])
  },

  async 'tags filter: nonsense is refused with 107' (h) {
    const client = await h.connect()
    const subscription = h.subscription(client, h.channel('nonsense'), { tagsFilter: { key: 'kind', cmp: 'resembles', val: 'bird' } })
    const refused = once(subscription, 'unsubscribed')
    subscription.subscribe()
    equal((await refused).code, 107, 'code')
  }
}

export const scenarios = { ...messaging, ...presence, ...history, ...forms }

