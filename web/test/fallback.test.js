// The centrifuge SDK without WebSockets: all scenarios over HTTP streaming and server-sent events, and the way there.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Centrifuge as JSONCentrifuge } from 'centrifuge'
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf'
import WebSocket from 'ws'
import { startChromium } from './chromium.js'
import { EventSource } from './eventsource.js'
import { startConfigured } from './gateway.js'
import { Harness, once } from './harness.js'
import { startProxies } from './proxy.js'
import { all, config, openPage, prefix, runThere, scenarios, signed } from './suite.js'

const HOSTS = 40 // for the clients of the browser: each needs one, see Harness

let gateway, chromium, proxies
const ends = [] // what is to be done after all tests, the last first
before(async () => {
  gateway = await startConfigured({ after: (end) => ends.push(end) }, { ...config, 'allowed-origins': ['*'] })
  chromium = await startChromium()
  ends.push(chromium.stop)
  proxies = await startProxies(gateway.page, Array.from({ length: HOSTS }, (_, index) => `127.0.1.${index + 1}`))
  ends.push(proxies.end)
})
after(async () => { for (const end of ends.reverse()) await end() })

const base = () => gateway.page.replace(/\/$/, '')

for (const [transport, encoding, Centrifuge, build] of [
  ['http_stream', 'JSON', JSONCentrifuge, 'centrifuge.js'], ['http_stream', 'Protobuf', ProtobufCentrifuge, 'centrifuge.protobuf.js'],
  ['sse', 'JSON', JSONCentrifuge, 'centrifuge.js']
]) {
  const protobuf = encoding === 'Protobuf'
  all(`Node, ${transport}, ${encoding}`, async (name) => {
    const harness = new Harness({ Centrifuge, WebSocket, EventSource, protobuf, url: base(), transport, api: gateway.api, sign: signed, prefix: prefix() })
    try {
      await scenarios[name](harness)
    } finally {
      harness.end()
    }
  })
  let page
  let used = 0
  all(`Chromium, ${transport}, ${encoding}`, async (name) => {
    page ??= openPage(chromium, gateway, build)
    const urls = Array.from({ length: 6 }, () => proxies.urls[used++ % HOSTS])
    await (await page).evaluate(runThere, { name, protobuf, url: urls, transport, prefix: prefix() })
  })
}

const list = (url) => [
  { transport: 'websocket', endpoint: `${url.replace('http', 'ws')}/connection/websocket` },
  { transport: 'http_stream', endpoint: `${url}/connection/http_stream` }, { transport: 'sse', endpoint: `${url}/connection/sse` }
]

/** Connects by a list, publishes and receives, and returns the transport that served. Runs in the browser, too. */
async function fallback ({ Centrifuge, transports, options }) {
  const client = new Centrifuge(transports, options)
  const seen = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`not connected, the state is ${client.state}`)), 20_000)
    client.on('error', () => {})
    client.on('connected', ({ transport }) => {
      const subscription = client.newSubscription('room')
      subscription.on('publication', ({ data }) => {
        clearTimeout(timer)
        resolve([transport, data])
      })
      subscription.on('subscribed', () => subscription.publish('hello').catch(() => {})) // the publication may come first, and end it
      subscription.subscribe()
    })
  })
  client.connect()
  try {
    return await seen
  } finally {
    client.disconnect()
  }
}

describe('the list of transports', () => {
  for (const [what, url, without, expected] of [
    ['WebSockets work', () => base(), [], 'websocket'], ['a proxy breaks WebSockets', () => proxies.urls[0], [], 'http_stream'],
    ['a proxy breaks WebSockets, and the client cannot stream', () => proxies.urls[0], ['http_stream'], 'sse']
  ]) {
    test(`Node: ${what}`, async () => {
      const transports = list(url()).filter(({ transport }) => !without.includes(transport))
      const token = signed({ sub: 'ann' })
      const options = { token, websocket: WebSocket, eventsource: EventSource, emulationEndpoint: `${url()}/emulation` }
      assert.deepEqual(await fallback({ Centrifuge: JSONCentrifuge, transports, options }), [expected, 'hello'])
    })

    test(`Chromium: ${what}`, async (t) => {
      const page = await openPage(chromium, gateway, 'centrifuge.js')
      t.after(() => page.close())
      const transports = list(url()).filter(({ transport }) => !without.includes(transport))
      const options = { token: signed({ sub: 'ann' }), emulationEndpoint: `${url()}/emulation` }
      await page.evaluate(`globalThis.fallback = ${fallback}`)
      const seen = await page.evaluate((given) => globalThis.fallback({ Centrifuge: globalThis.Centrifuge, ...given }), { transports, options })
      assert.deepEqual(seen, [expected, 'hello'])
    })
  }

  test('a disconnect reaches the client with code and reason', async () => {
    for (const transport of ['http_stream', 'sse']) {
      const options = { token: signed({ sub: transport }), eventsource: EventSource, emulationEndpoint: `${base()}/emulation` }
      const client = new JSONCentrifuge([{ transport, endpoint: `${base()}/connection/${transport}` }], options)
      const connected = once(client, 'connected')
      client.connect()
      await connected
      const disconnected = once(client, 'disconnected')
      const { result } = await gateway.api('connections', { user: transport })
      const [{ session, transport: shown }] = Object.values(result.connections)
      assert.equal(shown, transport)
      await gateway.api('disconnect', { session, disconnect: { code: 4500, reason: 'out' } })
      const { code, reason } = await disconnected
      assert.deepEqual([code, reason], [4500, 'out'])
    }
  })
})
