// The centrifuge SDK from npm, as it is, against the gateway: all scenarios in Node and in Chromium, with JSON and Protobuf.
import { after, before } from 'node:test'
import { Centrifuge as JSONCentrifuge } from 'centrifuge'
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf'
import WebSocket from 'ws'
import { startChromium } from './chromium.js'
import { startConfigured } from './gateway.js'
import { Harness } from './harness.js'
import { all, config, openPage, prefix, runThere, scenarios, signed } from './suite.js'

let gateway
let chromium
const ends = [] // what is to be done after all tests, the last first
before(async () => {
  gateway = await startConfigured({ after: (end) => ends.push(end) }, config)
  chromium = await startChromium()
  ends.push(chromium.stop)
})
after(async () => { for (const end of ends.reverse()) await end() })

for (const [encoding, Centrifuge] of [['JSON', JSONCentrifuge], ['Protobuf', ProtobufCentrifuge]]) {
  all(`Node, ${encoding}`, async (name) => {
    const url = `${gateway.url}/connection/websocket`
    const harness = new Harness({ Centrifuge, WebSocket, protobuf: encoding === 'Protobuf', url, api: gateway.api, sign: signed, prefix: prefix() })
    try {
      await scenarios[name](harness)
    } finally {
      harness.end()
    }
  })
}

for (const [encoding, build] of [['JSON', 'centrifuge.js'], ['Protobuf', 'centrifuge.protobuf.js']]) {
  let page
  all(`Chromium, ${encoding}`, async (name) => {
    page ??= openPage(chromium, gateway, build)
    await (await page).evaluate(runThere, { name, protobuf: encoding === 'Protobuf', url: `${gateway.url}/connection/websocket`, prefix: prefix() })
  })
}
