// Shared state by the SDK in sdk/js against the gateway: all scenarios in Node and in Chromium, and over the death of a gateway.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Centrifuge } from 'centrifuge'
import WebSocket from 'ws'
import * as core from '../../sdk/js/dist/core.js'
import { createClient } from '../../sdk/js/dist/index.js'
import { startChromium } from './chromium.js'
import { startConfigured, startGateway } from './gateway.js'
import { Harness, range, sleep } from './harness.js'
import { scenarios } from './scenarios-sync.js'
import { all, config, openPage, prefix, signed } from './suite.js'

let gateway
let chromium
const ends = []
before(async () => {
  gateway = await startConfigured({ after: (end) => ends.push(end) }, { ...config, services: ['sync'] })
  chromium = await startChromium()
  ends.push(chromium.stop)
})
after(async () => { for (const end of ends.reverse()) await end() })

all('sync in Node', async (name) => {
  const url = `${gateway.url}/connection/websocket`
  const harness = new Harness({ Centrifuge, WebSocket, url, api: gateway.api, sign: signed, prefix: prefix() })
  harness.core = core
  try {
    await scenarios[name](harness)
  } finally {
    harness.end()
  }
}, scenarios)

let page
all('sync in Chromium', async (name) => {
  page ??= openPage(chromium, gateway, 'centrifuge.js').then(async (opened) => {
    await opened.route('**/roost/*', async (route) => {
      const file = new URL(route.request().url()).pathname.slice('/roost/'.length)
      const at = file === 'scenarios-sync.js' || file === 'harness.js' ? file : `../../sdk/js/dist/${file}`
      await route.fulfill({ contentType: 'text/javascript', body: await readFile(new URL(at, import.meta.url)) })
    })
    return opened
  })
  await (await page).evaluate(there, { name, url: `${gateway.url}/connection/websocket`, prefix: prefix() })
}, scenarios)

/** Runs in the browser. */
async function there ({ name, url, prefix }) {
  const [{ Harness }, { scenarios }, core] = await Promise.all(['harness', 'scenarios-sync', 'core'].map((file) => import(`/roost/${file}.js`)))
  const { Centrifuge, WebSocket, callAPI, signToken } = globalThis
  const harness = new Harness({ Centrifuge, WebSocket, url, api: callAPI, sign: signToken, prefix })
  harness.core = core
  try {
    await scenarios[name](harness)
  } finally {
    harness.end()
  }
}

test('a gateway that is killed under writes has each of them once when it is back', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'roost-data-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  let running = await startGateway(t, '--data', folder)
  const client = createClient(`${running.url}/connection/websocket`, { websocket: WebSocket, minReconnectDelay: 20, maxReconnectDelay: 200 })
  t.after(() => client.disconnect())
  client.centrifuge.on('error', () => {})
  const [list, watched] = [await client.sync.list('list'), await client.sync.document('d')]
  const seen = []
  list.on('itemAdded', ({ data }) => seen.push(data))
  const writes = range(1, 300).map((n) => list.push(n))
  for (let round = 0; round < 2; round++) {
    await sleep(60)
    await running.stop('SIGKILL')
    running = await startGateway(t, '--data', folder, '--address', new URL(running.page).host)
  }
  const indexes = (await Promise.all(writes)).map(({ index }) => index)
  assert.deepEqual(indexes, range(0, 299))
  await watched.mutate(() => ({ n: 1 }))
  const items = []
  for await (const { data } of list) items.push(data)
  assert.deepEqual(items, range(1, 300))
  while (seen.length < 300) await sleep(10)
  assert.deepEqual(seen, range(1, 300))
})
