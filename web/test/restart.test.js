// A gateway that ends and comes back on the same data, as clients of the centrifuge SDK see it.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Centrifuge as JSONCentrifuge } from 'centrifuge'
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf'
import WebSocket from 'ws'
import { startGateway } from './gateway.js'
import { Harness, once, range } from './harness.js'

const CLIENTS = 20

async function startWithData (t) {
  const folder = await mkdtemp(join(tmpdir(), 'roost-data-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const flags = ['--data', folder]
  const gateway = await startGateway(t, ...flags)
  return { gateway, again: () => startGateway(t, ...flags, '--address', new URL(gateway.page).host) }
}

for (const [encoding, Centrifuge] of [['JSON', JSONCentrifuge], ['Protobuf', ProtobufCentrifuge]]) {
  for (const [how, signal, expected] of [['is stopped', 'SIGTERM', 3001], ['is killed', 'SIGKILL', 1]]) {
    test(`${encoding}: the gateway ${how} and ${CLIENTS} clients miss nothing`, async (t) => {
      const { gateway, again } = await startWithData(t)
      const harness = new Harness({
        Centrifuge, WebSocket, protobuf: encoding === 'Protobuf', url: `${gateway.url}/connection/websocket`, api: gateway.api, sign: () => '', prefix: 'restart'
      })
      t.after(() => harness.end())
      const channel = harness.channel('news')
      const subscriptions = []
      for (const number of range(1, CLIENTS)) {
        const client = await harness.connect(number)
        subscriptions.push(await harness.subscribe(client, channel))
      }
      for (const number of range(1, 5)) await harness.publish(channel, number)
      for (const subscription of subscriptions) await harness.got(subscription, range(1, 5))

      for (const client of harness.clients) client.hold()
      const lost = harness.clients.map((client) => once(client, 'connecting'))
      await gateway.stop(signal)
      for (const { code } of await Promise.all(lost)) assert.equal(code, expected)
      const recovered = subscriptions.map((subscription) => once(subscription, 'subscribed'))
      harness.api = (await again()).api
      for (const number of range(6, 9)) await harness.publish(channel, number) // before the clients are back
      for (const client of harness.clients) client.online()
      for (const context of await Promise.all(recovered)) assert.deepEqual([context.wasRecovering, context.recovered], [true, true])
      await harness.publish(channel, 10)
      for (const subscription of subscriptions) await harness.got(subscription, range(1, 10))
    })
  }
}
