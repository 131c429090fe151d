// What backends decide, as applications see it; by the backend of backend.js.
import { equal, once, refusal, sleep } from './harness.js'

const PAST = 4000 // milliseconds from then to past what the backend lets in for, and the gateway's grace

/** A client that comes without a token but with a name. */
function visitor (h, name) {
  const client = h.client({ data: h.encode({ name: h.user(name) }) })
  client.connect()
  return client
}

async function connected (h, name) {
  const client = visitor(h, name)
  client.first = await once(client, 'connected')
  return client
}

/** How often the backend was asked about a user or a channel. */
async function asked (h, client, event, about) {
  return h.decode((await client.rpc(event, h.encode(about))).data)
}

async function askedUntil (h, client, event, about, times) {
  for (let i = 0; await asked(h, client, event, about) < times; i++) {
    if (i === 200) throw new Error(`not asked ${times} times about ${about}`)
    await sleep(100)
  }
}

const STAYED = [['connecting', 0], ['connected', undefined]]

export const scenarios = {
  async 'connect: the backend says who it is, and greets' (h) {
    const client = await connected(h, 'ann')
    equal(h.decode(client.first.data).welcome, h.user('ann'), 'greeting')
    const subscription = await h.subscribe(client, h.channel('one', 'room'))
    equal(h.decode(subscription.first.data), { topic: h.channel('one', 'room') }, 'data of the subscription')
  },

  async 'connect: refused with 103, after which the SDK gives up, or with a code of the application' (h) {
    for (const [name, code] of [['stranger', 103], ['banned', 4501]]) {
      equal((await once(visitor(h, name), 'disconnected')).code, code, name)
    }
  },

  async 'subscribe and publish: as the backend decides, who may change what is said' (h) {
    const client = await connected(h, 'ann')
    const closed = h.subscription(client, h.channel('closed', 'room'))
    closed.subscribe()
    equal((await once(closed, 'unsubscribed')).code, 103, 'code')
    const subscription = await h.subscribe(client, h.channel('one', 'room'))
    await subscription.publish(h.encode({ text: 'hi' }))
    await h.got(subscription, [{ from: h.user('ann'), said: { text: 'hi' } }])
    equal((await refusal(subscription.publish(h.encode({ rude: true })), 'rudeness')).code, 1000, 'code')
  },

  async 'refresh: a client and its subscription that are prolonged notice nothing' (h) {
    const client = await connected(h, 'ann')
    const channel = h.channel('long', 'room')
    const subscription = await h.subscribe(client, channel)
    const states = []
    subscription.on('subscribing', ({ code }) => states.push(code))
    await askedUntil(h, client, 'refresh', h.user('ann'), 2)
    await askedUntil(h, client, 'sub_refresh', channel, 2)
    await subscription.publish(h.encode('still here'))
    await h.got(subscription, [{ from: h.user('ann'), said: 'still here' }])
    equal([client.events, states], [STAYED, []], 'states')
  },

  async 'refresh: a backend that does not know ends nobody' (h) {
    const client = await connected(h, 'forgotten')
    const channel = h.channel('forgotten', 'room')
    const subscription = await h.subscribe(client, channel)
    await askedUntil(h, client, 'refresh', h.user('forgotten'), 1)
    await askedUntil(h, client, 'sub_refresh', channel, 1)
    await sleep(PAST)
    equal([client.events, subscription.state], [STAYED, 'subscribed'], 'states')
  },

  async 'refresh: who has expired comes back with 3005 and is asked about anew' (h) {
    const client = await connected(h, 'expires')
    equal((await once(client, 'connecting')).code, 3005, 'code')
    await once(client, 'connected')
  },

  async 'refresh: who is thrown out with 4500 stays away' (h) {
    equal((await once(await connected(h, 'thrown out'), 'disconnected')).code, 4500, 'code')
  },

  async 'sub_refresh: a subscription that has expired comes back with 2501, one thrown out ends the connection' (h) {
    const client = await connected(h, 'ann')
    const subscription = await h.subscribe(client, h.channel('expires', 'room'))
    equal((await once(subscription, 'subscribing')).code, 2501, 'code')
    await once(subscription, 'subscribed')
    await h.subscribe(client, h.channel('thrown out', 'room'))
    equal((await once(client, 'disconnected')).code, 4500, 'code')
  }
}
