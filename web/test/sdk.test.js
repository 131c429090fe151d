// The centrifuge SDK from npm, as it is, against the gateway: all scenarios in Node and in Chromium, with JSON and Protobuf.
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import { Centrifuge as JSONCentrifuge } from 'centrifuge'
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf'
import WebSocket from 'ws'
import { startChromium } from './chromium.js'
import { startConfigured } from './gateway.js'
import { Harness } from './harness.js'
import { scenarios as messaging } from './scenarios.js'
import { scenarios as authorization } from './scenarios-auth.js'
import { scenarios as recovery } from './scenarios-recovery.js'
import { sign } from './token.js'

const SECRET = 'a secret that only this test knows, 0123456789'
const scenarios = { ...messaging, ...recovery, ...authorization }

const allowed = Object.fromEntries(['subscribe', 'publish', 'presence', 'history'].map((what) => [`allow-${what}-for-client`, true]))
const open = { presence: true, 'join-leave': true, 'history-size': 100, 'history-ttl': '300s', 'force-recovery': true, delta: true, 'tags-filter': true, ...allowed }
const config = {
  'hmac-secret-key': SECRET,
  'ping-interval': '4s',
  'pong-timeout': '3s', // a browser that starts up may be busy for longer than a second
  'expiry-grace': '1s',
  channels: {
    default: open,
    namespaces: {
      quiet: { 'allow-subscribe-for-client': true },
      token: { ...open, 'allow-subscribe-for-client': false },
      small: { ...open, 'history-size': 5 },
      long: { ...open, 'history-size': 1000 },
      free: { ...open, 'force-recovery': false },
      cache: { ...open, 'recovery-mode': 'cache' },
      limited: { ...open, 'allow-subscribe-for-client': false, 'allow-user-limited-channels': true }
    }
  }
}

const signed = (claims, header, secret = SECRET) => sign(secret, claims, header)
const prefix = () => randomBytes(4).toString('hex')
const only = new RegExp(process.env.SCENARIO ?? '')

/** One test per scenario. Some wait for time to pass, so several run at once; each has channels and users of its own. */
function all (title, run) {
  describe(title, { concurrency: 6 }, () => {
    for (const name of Object.keys(scenarios).filter((name) => only.test(name))) test(name, () => run(name))
  })
}

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

/** Opens a page of the gateway, be it a 404, into which the scenarios and the SDK's browser build can be loaded. */
async function openPage (build) {
  const page = await chromium.browser.newPage()
  const files = { 'sdk.js': `node_modules/centrifuge/dist/${build}` }
  for (const file of ['scenarios.js', 'scenarios-recovery.js', 'scenarios-auth.js', 'harness.js']) files[file] = file
  await page.route('**/sdk/*', async (route) => {
    const file = files[new URL(route.request().url()).pathname.slice('/sdk/'.length)]
    await route.fulfill({ contentType: 'text/javascript', body: await readFile(new URL(file, import.meta.url)) })
  })
  await page.exposeFunction('callAPI', gateway.api)
  await page.exposeFunction('signToken', signed)
  await page.goto(gateway.page)
  await page.addScriptTag({ url: '/sdk/sdk.js' })
  return page
}

/** Runs in the browser. */
async function runThere ({ name, protobuf, url, prefix }) {
  const { Harness } = await import('/sdk/harness.js')
  const parts = await Promise.all(['', '-recovery', '-auth'].map((part) => import(`/sdk/scenarios${part}.js`)))
  const { Centrifuge, WebSocket, callAPI, signToken } = globalThis
  const harness = new Harness({ Centrifuge, WebSocket, protobuf, url, api: callAPI, sign: signToken, prefix })
  try {
    await parts.find(({ scenarios }) => scenarios[name]).scenarios[name](harness)
  } catch (error) {
    throw error instanceof Error ? error : new Error(JSON.stringify(error)) // the SDK rejects with plain objects
  } finally {
    harness.end()
  }
}

for (const [encoding, build] of [['JSON', 'centrifuge.js'], ['Protobuf', 'centrifuge.protobuf.js']]) {
  let page
  all(`Chromium, ${encoding}`, async (name) => {
    page ??= openPage(build)
    await (await page).evaluate(runThere, { name, protobuf: encoding === 'Protobuf', url: `${gateway.url}/connection/websocket`, prefix: prefix() })
  })
}
