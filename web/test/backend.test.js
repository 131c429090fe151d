// The centrifuge SDK as backends decide on it: over WebSockets in Node and in Chromium, and over server-sent events.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Centrifuge as JSONCentrifuge } from 'centrifuge'
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf'
import WebSocket from 'ws'
import { config, startBackend } from './backend.js'
import { startChromium } from './chromium.js'
import { EventSource } from './eventsource.js'
import { startConfigured } from './gateway.js'
import { Harness } from './harness.js'
import { scenarios } from './scenarios-backend.js'
import { all, openPage, prefix, runThere, signed } from './suite.js'

let gateway
let chromium
const ends = [] // what is to be done after all tests, the last first
before(async () => {
  const backend = await startBackend()
  ends.push(backend.stop)
  gateway = await startConfigured({ after: (end) => ends.push(end) }, config(backend.url))
  chromium = await startChromium()
  ends.push(chromium.stop)
})
after(async () => { for (const end of ends.reverse()) await end() })

const webSocket = () => `${gateway.url}/connection/websocket`

for (const [encoding, Centrifuge, transport] of [['JSON', JSONCentrifuge], ['Protobuf', ProtobufCentrifuge], ['JSON', JSONCentrifuge, 'sse']]) {
  all(`Node, ${encoding}, ${transport ?? 'websocket'}`, async (name) => {
    const url = transport ? gateway.page.replace(/\/$/, '') : webSocket()
    const harness = new Harness({ Centrifuge, WebSocket, EventSource, transport, protobuf: encoding === 'Protobuf', url, api: gateway.api, sign: signed, prefix: prefix() })
    try {
      await scenarios[name](harness)
    } finally {
      harness.end()
    }
  }, scenarios)
}

for (const [encoding, build] of [['JSON', 'centrifuge.js'], ['Protobuf', 'centrifuge.protobuf.js']]) {
  let page
  all(`Chromium, ${encoding}`, async (name) => {
    page ??= openPage(chromium, gateway, build)
    await (await page).evaluate(runThere, { name, protobuf: encoding === 'Protobuf', url: webSocket(), prefix: prefix() })
  }, scenarios)
}

test('the backend sees the cookie that a page has for the gateway', async () => {
  const page = await openPage(chromium, gateway, 'centrifuge.js')
  const greeting = await page.evaluate(async (url) => {
    document.cookie = 'session=of this page'
    const client = new globalThis.Centrifuge(url, { data: { name: 'cookie' } })
    const { data } = await new Promise((resolve) => { client.on('connected', resolve).connect() })
    client.disconnect()
    return data
  }, webSocket())
  assert.deepEqual(greeting, { welcome: 'cookie', cookie: 'session=of this page' })
})
