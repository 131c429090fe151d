// The centrifuge SDK over TLS: wss from Node and Chromium, the fall-back transports over https, and a certificate that changes meanwhile.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { connect as connectTLS } from 'node:tls'
import { promisify } from 'node:util'
import { Centrifuge } from 'centrifuge'
import WebSocket from 'ws'
import { startChromium } from './chromium.js'
import { startConfigured } from './gateway.js'
import { Harness, until } from './harness.js'
import { config, openPage, prefix, runThere, signed } from './suite.js'
import { scenarios } from './scenarios.js'

let folder, gateway, chromium, trusted
const ends = [] // what is to be done after all tests, the last first
const files = () => ({ cert: join(folder, 'tls.crt'), key: join(folder, 'tls.key') })

/** Makes a certificate for 127.0.0.1 and puts it where the gateway looks. */
async function certify (serial) {
  const { cert, key } = files()
  await promisify(execFile)('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=roost.test',
    '-addext', 'subjectAltName=IP:127.0.0.1', '-set_serial', String(serial), '-keyout', `${key}.new`, '-out', `${cert}.new`])
  await rename(`${key}.new`, key)
  await rename(`${cert}.new`, cert)
  trusted = await readFile(cert)
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'roost-tls-'))
  ends.push(() => rm(folder, { recursive: true, force: true }))
  await certify(1)
  const { cert, key } = files()
  gateway = await startConfigured({ after: (end) => ends.push(end) }, { ...config, 'tls-cert': [cert], 'tls-key': [key] })
  chromium = await startChromium({ ignoreHTTPSErrors: true })
  ends.push(chromium.stop)
})
after(async () => { for (const end of ends.reverse()) await end() })

const url = () => `${gateway.url}/connection/websocket`

/** The WebSocket of Node that trusts the certificate there was when it was asked for. */
const trusting = (ca) => class extends WebSocket {
  constructor (url, protocols) { super(url, protocols, { ca }) }
}

describe('wss', { concurrency: 6 }, () => {
  let page
  for (const name of Object.keys(scenarios)) {
    test(`Node: ${name}`, async () => {
      const harness = new Harness({ Centrifuge, WebSocket: trusting(trusted), protobuf: false, url: url(), api: gateway.api, sign: signed, prefix: prefix() })
      try {
        await scenarios[name](harness)
      } finally {
        harness.end()
      }
    })
    test(`Chromium: ${name}`, async () => {
      page ??= openPage(chromium, gateway, 'centrifuge.js')
      await (await page).evaluate(runThere, { name, protobuf: false, url: url(), prefix: prefix() })
    })
  }
})

describe('https', () => {
  for (const transport of ['http_stream', 'sse']) {
    test(`Chromium: ${transport}`, async (t) => {
      const page = await openPage(chromium, gateway, 'centrifuge.js')
      t.after(() => page.close())
      const name = 'publish: subscribers and the publisher get the message with its author'
      await page.evaluate(runThere, { name, protobuf: false, url: gateway.page.replace(/\/$/, ''), transport, prefix: prefix() })
    })
  }
})

test('a certificate that changes: new connections get it, those there are go on', async () => {
  const h = new Harness({ Centrifuge, WebSocket: trusting(trusted), protobuf: false, url: url(), api: gateway.api, sign: signed, prefix: prefix() })
  try {
    const client = await h.connect('ann')
    const subscription = await h.subscribe(client, h.channel('news'))
    await certify(2)
    const { hostname, port } = new URL(gateway.page)
    let serial
    while (serial !== '02') { // the gateway looks at its files every few seconds
      const socket = connectTLS({ host: hostname, port, rejectUnauthorized: false })
      await once(socket, 'secureConnect')
      serial = socket.getPeerCertificate().serialNumber
      socket.destroy()
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    const other = new Harness({ ...h, WebSocket: trusting(trusted), clients: [] })
    await other.connect('bob')
    await h.publish(h.channel('news'), 'still here')
    await h.got(subscription, ['still here'])
    await until('ann is connected', () => client.events.length === 2)
    assert.deepEqual(client.events.map(([event]) => event), ['connecting', 'connected'])
    other.end()
  } finally {
    h.end()
  }
})

test('a certificate that is not trusted lets no client in', async () => {
  const socket = new WebSocket(url())
  const [error] = await once(socket, 'error')
  assert.match(String(error), /self-signed/)
})
