// What a client gets of what it missed, one scenario each; see scenarios.js.
import { equal, once, range, sleep, until } from './harness.js'

export const scenarios = {
  async 'recovery after a cut: what was published meanwhile arrives once and in order' (h) {
    const channel = h.channel('cut')
    const client = await h.connect()
    const subscription = await h.subscribe(client, channel)
    equal([subscription.first.recoverable, subscription.first.positioned, subscription.first.wasRecovering, subscription.first.recovered],
      [true, true, false, false], 'first subscribe')
    await h.publish(channel, 0)
    await h.got(subscription, [0])
    client.offline()
    for (const number of range(1, 20)) await h.publish(channel, number)
    const again = once(subscription, 'subscribed')
    client.online()
    const { wasRecovering, recovered, hasRecoveredPublications } = await again
    equal([wasRecovering, recovered, hasRecoveredPublications], [true, true, true], 'recovery')
    await h.publish(channel, 21)
    await h.got(subscription, range(0, 21))
  },

  async 'recovery when nothing was missed' (h) {
    const channel = h.channel('quiet cut')
    const client = await h.connect()
    const subscription = await h.subscribe(client, channel)
    for (const sent of [[], ['one']]) {
      for (const data of sent) await h.publish(channel, data)
      await h.got(subscription, sent)
      const again = once(subscription, 'subscribed')
      client.snap()
      const { wasRecovering, recovered, hasRecoveredPublications } = await again
      equal([wasRecovering, recovered, hasRecoveredPublications], [true, true, false], 'recovery')
    }
  },

  async 'recovery under traffic: 200 messages while the socket is cut five times' (h) {
    const channel = h.channel('storm')
    const client = await h.connect()
    const subscription = await h.subscribe(client, channel)
    for (const number of range(1, 200)) {
      await h.publish(channel, number)
      if (number % 40 === 0) {
        await client.ready() // after the cut before
        const cut = once(client, 'connecting')
        client.snap()
        await cut
      }
    }
    await h.got(subscription, range(1, 200))
    equal(client.events.filter(([event]) => event === 'connecting').length, 6, 'connects')
  },

  async 'recovery of what the history no longer holds is refused, and said' (h) {
    const channel = h.channel('lost', 'small')
    const client = await h.connect()
    const subscription = await h.subscribe(client, channel)
    await h.publish(channel, 0)
    await h.got(subscription, [0])
    client.offline()
    for (const number of range(1, 6)) await h.publish(channel, number)
    const again = once(subscription, 'subscribed')
    client.online()
    const { wasRecovering, recovered, streamPosition } = await again
    equal([wasRecovering, recovered, streamPosition.offset], [true, false, 7], 'recovery')
    await h.publish(channel, 7)
    await h.got(subscription, [0, 7])
  },

  async 'recovery from a position that the application kept' (h) {
    const channel = h.channel('kept')
    let epoch
    for (const number of range(1, 4)) ({ epoch } = await h.publish(channel, number))
    const client = await h.connect()
    const subscription = await h.subscribe(client, channel, { since: { offset: 2, epoch } })
    equal(subscription.first.recovered, true, 'recovered')
    await h.got(subscription, [3, 4])
    const other = await h.subscribe(await h.connect('other'), channel, { since: { offset: 2, epoch: 'another' } })
    equal([other.first.wasRecovering, other.first.recovered], [true, false], 'another epoch')
    await h.publish(channel, 5)
    await h.got(other, [5])
    const beginning = await h.subscribe(await h.connect('third'), channel, { since: { offset: 0, epoch: '' } })
    equal(beginning.first.recovered, true, 'recovered from the beginning')
    await h.got(beginning, [1, 2, 3, 4, 5])
  },

  async 'recovery in cache mode: the latest publication only' (h) {
    const channel = h.channel('state', 'cache')
    await h.publish(channel, 'first')
    await h.publish(channel, 'second')
    const client = await h.connect()
    const subscription = await h.subscribe(client, channel, { since: { offset: 0, epoch: '' } })
    equal(subscription.first.recovered, true, 'recovered')
    await h.got(subscription, ['second'])
    client.offline()
    for (const data of ['third', 'fourth']) await h.publish(channel, data)
    const again = once(subscription, 'subscribed')
    client.online()
    equal((await again).recovered, true, 'recovered after a cut')
    await h.got(subscription, ['second', 'fourth'])
  },

  async 'getState: what came after the state that the application loaded' (h) {
    const channel = h.channel('document', 'small')
    const client = await h.connect()
    let loads = 0
    const getState = async () => {
      loads++
      return client.history(channel, { limit: 0 }).then(({ offset, epoch }) => ({ offset, epoch }))
    }
    await h.publish(channel, 0)
    const subscription = await h.subscribe(client, channel, { getState })
    await h.publish(channel, 1)
    await h.got(subscription, [1])
    client.offline()
    for (const number of range(2, 9)) await h.publish(channel, number)
    const again = once(subscription, 'subscribed')
    client.online()
    await again
    await h.publish(channel, 10)
    await h.got(subscription, [1, 10])
    equal(loads, 2, 'loads of the state') // error 112 told the SDK to load again
  },

  async 'recovery of 100 channels at once' (h) {
    const client = await h.connect()
    const subscriptions = range(1, 100).map((number) => h.subscription(client, h.channel(number)))
    for (const subscription of subscriptions) subscription.subscribe()
    await Promise.all(subscriptions.map((subscription) => subscription.ready()))
    client.offline()
    const channels = subscriptions.map(({ channel }) => channel)
    for (const data of [1, 2, 3]) await h.call('broadcast', { channels, data })
    client.online()
    for (const subscription of subscriptions) await h.got(subscription, [1, 2, 3], subscription.channel)
  },

  async 'a subscription that begins amid traffic has no gap and no double' (h) {
    const channel = h.channel('river', 'long')
    const publisher = await h.connect('publisher')
    let stop = false
    const sending = (async () => {
      for (let number = 1; !stop; number++) {
        await publisher.publish(channel, h.encode(number))
        await sleep(3) // so that what a cut misses stays below the 300 that can be recovered
      }
    })()
    const client = await h.connect()
    for (let round = 0; round < 10; round++) {
      const subscription = client.newSubscription(channel)
      const offsets = []
      subscription.on('publication', ({ offset }) => offsets.push(offset))
      const subscribed = once(subscription, 'subscribed')
      subscription.subscribe()
      const { offset } = (await subscribed).streamPosition
      await until('20 messages', () => offsets.length >= 20)
      client.snap()
      await until('20 messages after a cut', () => offsets.length >= 40)
      equal(offsets, range(offset + 1, offset + offsets.length), 'offsets')
      subscription.unsubscribe()
      client.removeSubscription(subscription)
    }
    stop = true
    await sending
  },

  async 'recovery holds 300 messages and not one more' (h) {
    const client = await h.connect()
    for (const [count, complete] of [[300, true], [301, false]]) {
      const channel = h.channel(`long ${count}`, 'long')
      const subscription = await h.subscribe(client, channel)
      client.offline()
      for (const number of range(1, count)) await h.publish(channel, number)
      const again = once(subscription, 'subscribed')
      client.online()
      equal((await again).recovered, complete, `${count} missed`)
      if (complete) await h.got(subscription, range(1, count))
      subscription.unsubscribe()
    }
  },

  async 'recovery and positioning are as the client asks, where the namespace does not say' (h) {
    const client = await h.connect()
    const kinds = { neither: {}, positioned: { positioned: true }, recoverable: { recoverable: true } }
    for (const [kind, options] of Object.entries(kinds)) {
      const channel = h.channel(kind, 'free')
      const subscription = await h.subscribe(client, channel, options)
      const { recoverable, positioned } = subscription.first
      equal([positioned, recoverable], [kind !== 'neither', kind === 'recoverable'], kind)
      await h.publish(channel, 1)
      await h.got(subscription, [1])
      client.offline()
      await h.publish(channel, 2)
      const again = once(subscription, 'subscribed')
      client.online()
      const { wasRecovering, recovered } = await again
      equal([wasRecovering, recovered], kind === 'recoverable' ? [true, true] : [false, false], kind)
      await h.publish(channel, 3)
      await h.got(subscription, kind === 'recoverable' ? [1, 2, 3] : [1, 3])
    }
  },

  async 'server-side subscriptions recover after one cut and after others' (h) {
    const channel = h.channel('pushed')
    const client = await h.connect('ann', { token: await h.token('ann', { channels: [channel] }) })
    const got = []
    client.on('publication', ({ data }) => got.push(h.decode(data)))
    await h.publish(channel, 1)
    await until('the message', () => got.length === 1)
    for (const round of [1, 2, 3]) {
      client.offline()
      for (const number of range(1, 10)) await h.publish(channel, round * 10 + number)
      client.online()
      await until(() => `ten more, got ${JSON.stringify(got)}`, () => got.length === 1 + round * 10)
    }
    equal(got, [1, ...range(11, 40)], 'publications')
  }
}
