// Tokens, permissions, limits, and what the server does to clients.
import { equal, once, refusal, seconds, sleep, until } from './harness.js'

const SOON = 3 // seconds that a token lives which is to expire; enough for a busy machine to use it before
const PAST = 7000 // milliseconds from then to past its expiry and the grace of two seconds that the server of these tests gives

const pending = () => new Promise(() => {}) // a token that never comes

const connectionTokens = {
  async 'connection token: renewed before it expires, without a reconnect' (h) {
    let renewals = 0
    const client = await h.connect('ann', {
      token: await h.token('ann', { exp: seconds() + SOON }),
      getToken: () => { renewals++; return h.token('ann') }
    })
    await until('a renewal', () => renewals === 1)
    await sleep(PAST)
    equal([renewals, client.events], [1, [['connecting', 0], ['connected', undefined]]], 'renewals and states')
    await client.publish(h.channel('after'), h.encode('still here'))
  },

  async 'connection token: expired ones make the SDK ask for another' (h) {
    let asked = 0
    const client = await h.connect('ann', {
      token: await h.token('ann', { exp: seconds() - 60 }),
      getToken: () => { asked++; return h.token('ann') }
    })
    equal([asked, client.state], [1, 'connected'], 'asked and state')
  },

  async 'connection token: who does not renew is cut with 3005' (h) {
    const client = await h.connect('ann', { token: await h.token('ann', { exp: seconds() + SOON }), getToken: pending })
    equal((await once(client, 'connecting')).code, 3005, 'code')
  },

  async 'connection token: a forged one at renewal ends the connection with 3500' (h) {
    const forged = () => h.sign({ sub: h.user('ann'), exp: seconds() + 60 }, undefined, 'the key of somebody else, 0123456789')
    const client = await h.connect('ann', { token: await h.token('ann', { exp: seconds() + SOON }), getToken: forged })
    equal((await once(client, 'disconnected')).code, 3500, 'code')
  },

  async 'connection token: exp and expire_at are not the same' (h) {
    const client = await h.connect('ann', { token: await h.token('ann', { exp: seconds() + SOON, expire_at: 0 }), getToken: pending })
    await sleep(PAST)
    equal(client.events, [['connecting', 0], ['connected', undefined]], 'states')
  },

  async 'connection token: none, forged, without signature, for another key or not a token: 3500' (h) {
    const good = await h.token('ann')
    const parts = good.split('.')
    const forged = [parts[0], btoa(JSON.stringify({ sub: 'admin' })).replaceAll('=', ''), parts[2]].join('.')
    for (const [what, token] of Object.entries({
      none: '', forged, cut: good.slice(0, -4), nonsense: 'not.a.token', unsigned: await h.sign({ sub: 'admin' }, { alg: 'none' }),
      'another key': await h.sign({ sub: 'admin' }, undefined, 'the key of somebody else, 0123456789')
    })) {
      const client = h.client({ token })
      const disconnected = once(client, 'disconnected')
      client.connect()
      equal((await disconnected).code, 3500, what)
    }
  }
}

const subscriptionTokens = {
  async 'subscription token: opens a channel that is closed without' (h) {
    const channel = h.channel('closed', 'token')
    const client = await h.connect('ann')
    const subscription = await h.subscribe(client, channel, { getToken: ({ channel }) => h.token('ann', { channel, info: { role: 'owner' } }) })
    const { clients } = await subscription.presence()
    equal(h.decode(clients[client.id].chanInfo), { role: 'owner' }, 'channel info')
    await h.publish(channel, 'in')
    await h.got(subscription, ['in'])
  },

  async 'subscription token: none, for another channel, user or key: 103' (h) {
    const channel = h.channel('closed', 'token')
    const client = await h.connect('ann')
    const own = { sub: h.user('ann'), channel, exp: seconds() + 60 }
    for (const [what, token] of Object.entries({
      none: undefined,
      'another channel': await h.sign({ ...own, channel: `${channel}er` }),
      'another user': await h.sign({ ...own, sub: h.user('bob') }),
      'no channel': await h.sign({ ...own, channel: undefined }),
      'another key': await h.sign(own, undefined, 'the key of somebody else, 0123456789')
    })) {
      const subscription = h.subscription(client, channel, { token })
      const refused = once(subscription, 'unsubscribed')
      subscription.subscribe()
      equal((await refused).code, 103, what)
      client.removeSubscription(subscription)
    }
  },

  async 'subscription token: an expired one makes the SDK ask for another, and it is renewed' (h) {
    const channel = h.channel('renewed', 'token')
    const client = await h.connect('ann')
    let asked = 0
    const subscription = await h.subscribe(client, channel, {
      token: await h.token('ann', { channel, exp: seconds() - 60 }),
      getToken: () => h.token('ann', { channel, exp: seconds() + (++asked === 1 ? SOON : 3600) })
    })
    equal(asked > 0, true, 'asked for one that has not expired') // and on a slow machine for the next one already
    let interruptions = 0
    subscription.on('subscribing', () => interruptions++)
    await until('a renewal', () => asked === 2)
    await sleep(PAST)
    await h.publish(channel, 'after')
    await h.got(subscription, ['after'])
    equal([asked, interruptions], [2, 0], 'asked and interruptions')
  },

  async 'subscription token: who does not renew is unsubscribed with 2501' (h) {
    const channel = h.channel('expiring', 'token')
    const client = await h.connect('ann')
    let asked = 0
    const subscription = await h.subscribe(client, channel, {
      getToken: () => ++asked === 1 ? h.token('ann', { channel, exp: seconds() + SOON }) : pending()
    })
    equal((await once(subscription, 'subscribing')).code, 2501, 'code')
    equal(client.state, 'connected', 'the connection stays')
  }
}

const serverSide = {
  async 'server-side subscriptions by token: announced, served and recovered' (h) {
    const [plain, rich] = [h.channel('plain'), h.channel('rich')]
    const client = h.client({ token: await h.token('ann', { channels: [plain], subs: { [rich]: { info: { role: 1 }, data: { welcome: true } } } }) })
    const subscribed = []
    const got = []
    client.on('subscribed', ({ channel, data, recoverable, recovered }) => subscribed.push([channel, h.decode(data) ?? null, recoverable, recovered]))
    client.on('publication', ({ channel, data }) => got.push([channel, h.decode(data)]))
    const connected = once(client, 'connected')
    client.connect()
    const { client: id } = await connected
    await until('both subscriptions', () => subscribed.length === 2)
    equal(subscribed.sort(), [[plain, null, true, false], [rich, { welcome: true }, true, false]].sort(), 'subscriptions')
    equal(h.decode((await client.presence(rich)).clients[id].chanInfo), { role: 1 }, 'channel info')
    await h.publish(plain, 1)
    await until('the message', () => got.length === 1)
    client.offline()
    subscribed.length = 0
    await h.publish(plain, 2)
    await h.publish(rich, 3)
    client.online()
    await until(() => `all three, got ${JSON.stringify(got)}`, () => got.length === 3)
    equal(got.sort(), [[plain, 1], [plain, 2], [rich, 3]].sort(), 'publications')
    equal(subscribed.map(([, , , recovered]) => recovered), [true, true], 'recovered')
  },

  async 'subscribe and unsubscribe by API' (h) {
    const channel = h.channel('pushed')
    const client = await h.connect('ann')
    const got = []
    client.on('publication', (context) => got.push([context.channel, h.decode(context.data)]))
    const subscribed = once(client, 'subscribed')
    await h.call('subscribe', { user: h.user('ann'), channel, data: { by: 'server' } })
    const context = await subscribed
    equal([context.channel, h.decode(context.data)], [channel, { by: 'server' }], 'subscribed')
    await h.publish(channel, 1)
    await until('the message', () => got.length === 1)
    equal(got, [[channel, 1]], 'publications')
    const unsubscribed = once(client, 'unsubscribed')
    await h.call('unsubscribe', { user: h.user('ann'), channel })
    equal((await unsubscribed).channel, channel, 'unsubscribed')
    await h.publish(channel, 2)
    equal((await client.presence(channel)).clients, {}, 'presence')
    equal(got.length, 1, 'publications after')
  },

  async 'unsubscribe by API ends a subscription of the client for good: 2000' (h) {
    const channel = h.channel('ended')
    const [ann, bob] = [await h.connect('ann'), await h.connect('bob')]
    const [atAnn, atBob] = [await h.subscribe(ann, channel), await h.subscribe(bob, channel)]
    const ended = once(atAnn, 'unsubscribed')
    await h.call('unsubscribe', { user: h.user('ann'), channel })
    equal((await ended).code, 2000, 'code')
    await h.publish(channel, 'rest')
    await h.got(atBob, ['rest'])
    equal([atAnn.got, atAnn.state, ann.state], [[], 'unsubscribed', 'connected'], 'who was unsubscribed')
  },

  async 'disconnect by API: for good with 3503 and 4500, to come back with 4000; others stay' (h) {
    const bystander = await h.connect('bob')
    const spared = await h.connect('ann')
    for (const [disconnect, event, code] of [
      [undefined, 'disconnected', 3503], [{ code: 4500, reason: 'banned' }, 'disconnected', 4500], [{ code: 4000, reason: 'move on' }, 'connecting', 4000]
    ]) {
      const client = await h.connect('ann')
      const ended = once(client, event)
      await h.call('disconnect', { user: h.user('ann'), whitelist: [spared.id], ...(disconnect && { disconnect }) })
      const context = await ended
      equal([context.code, disconnect ? context.reason : undefined], [code, disconnect?.reason], 'code and reason')
      if (event === 'connecting') await once(client, 'connected')
      client.disconnect()
    }
    equal([bystander.events.length, spared.events.length], [2, 2], 'events of those who stay')
  },

  async 'disconnect by API of one client of a user' (h) {
    const [one, two] = [await h.connect('ann'), await h.connect('ann')]
    const ended = once(one, 'disconnected')
    await h.call('disconnect', { user: h.user('ann'), client: one.id })
    equal((await ended).code, 3503, 'code')
    await two.publish(h.channel('other'), h.encode('still here'))
  },

  async 'refresh by API can expire a connection: 3005' (h) {
    const client = await h.connect('ann')
    const expired = once(client, 'connecting')
    await h.call('refresh', { user: h.user('ann'), expired: true })
    equal((await expired).code, 3005, 'code')
  }
}

const permissions = {
  async 'what a namespace does not allow: publish 103, presence and history 108' (h) {
    const channel = h.channel('room', 'quiet')
    const client = await h.connect()
    const subscription = await h.subscribe(client, channel)
    equal([subscription.first.recoverable, subscription.first.positioned], [false, false], 'recovery')
    for (const [what, attempt, code] of [
      ['publish', () => subscription.publish(h.encode(1)), 103], ['presence', () => subscription.presence(), 108],
      ['presence_stats', () => subscription.presenceStats(), 108], ['history', () => subscription.history({ limit: 1 }), 108]
    ]) equal((await refusal(attempt(), what)).code, code, what)
    await h.publish(channel, 'by the server')
    await h.got(subscription, ['by the server'])
  },

  async 'an unknown namespace: 102' (h) {
    const client = await h.connect()
    const channel = h.channel('room', 'nowhere')
    const subscription = h.subscription(client, channel)
    const refused = once(subscription, 'unsubscribed')
    subscription.subscribe()
    equal((await refused).code, 102, 'subscribe')
    equal((await refusal(client.publish(channel, h.encode(1)), 'publish')).code, 102, 'publish')
    equal((await h.api('publish', { channel, data: 1 })).error?.code, 102, 'publish by API')
  },

  async 'channels of certain users: for those and nobody else' (h) {
    const users = ['ann', 'bob'].map((name) => h.user(name))
    const channel = `${h.channel('room', 'limited')}#${users.join(',')}`
    const ann = await h.subscribe(await h.connect('ann'), channel)
    const bob = await h.subscribe(await h.connect('bob'), channel)
    const carl = h.subscription(await h.connect('carl'), channel)
    const refused = once(carl, 'unsubscribed')
    carl.subscribe()
    equal((await refused).code, 103, 'code for another user')
    await ann.publish(h.encode('between us'))
    for (const subscription of [ann, bob]) await h.got(subscription, ['between us'])
  },

  async 'rpc that nobody answers: 104 or 108' (h) {
    const client = await h.connect()
    const { code } = await refusal(client.rpc('nothing', h.encode({})), 'rpc')
    equal([104, 108].includes(code), true, `code ${code}`)
    equal(client.state, 'connected', 'state')
  },

  async 'send that nobody takes: 3508' (h) {
    const client = await h.connect()
    const ended = once(client, 'disconnected')
    await client.send(h.encode('anyone?'))
    equal((await ended).code, 3508, 'code')
  },

  async 'limits: 128 channels (106), a channel name of 255 bytes, a message of 64 KiB' (h) {
    const client = await h.connect()
    for (let number = 1; number <= 128; number++) client.newSubscription(h.channel(number)).subscribe()
    await Promise.all(Object.values(client.subscriptions()).map((subscription) => subscription.ready()))
    const more = h.subscription(client, h.channel('one more'))
    const refused = once(more, 'unsubscribed')
    more.subscribe()
    equal((await refused).code, 106, 'channel 129')

    const other = await h.connect('other')
    const long = h.channel('').padEnd(255, 'x')
    const subscription = await h.subscribe(other, long)
    await subscription.publish(h.encode('fits'))
    await h.got(subscription, ['fits'])
    const longer = h.subscription(other, `${long}x`)
    const tooLong = Promise.race([once(longer, 'unsubscribed'), once(other, 'disconnected')])
    longer.subscribe()
    equal([107, 3501].includes((await tooLong).code), true, 'a name of 256 bytes')

    const last = await h.connect('last')
    const large = await h.subscribe(last, h.channel('large'))
    await large.publish(h.encode('x'.repeat(65_000)))
    await until('the large message', () => large.got.length === 1)
    equal(large.got[0].length, 65_000, 'length')
    if (h.transport) { // a request that is refused is one command's matter: there is no answer to it
      equal((await refusal(large.publish(h.encode('x'.repeat(66_000))), 'a message over the limit')).code, 1, 'timeout')
      return
    }
    const cut = once(last, 'disconnected')
    large.publish(h.encode('x'.repeat(66_000))).catch(() => {})
    equal((await cut).code, 3, 'code for a message over the limit') // the SDK's own number for close code 1009
  }
}

export const scenarios = { ...connectionTokens, ...subscriptionTokens, ...serverSide, ...permissions }
