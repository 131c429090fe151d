// What the tests of the centrifuge SDK have in common: all scenarios, what they are run against, and pages to run them in.
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { describe, test } from 'node:test'
import { scenarios as messaging } from './scenarios.js'
import { scenarios as authorization } from './scenarios-auth.js'
import { scenarios as recovery } from './scenarios-recovery.js'
import { sign } from './token.js'

const SECRET = 'a secret that only this test knows, 0123456789'
export const scenarios = { ...authorization, ...messaging, ...recovery } // those that wait for time to pass begin

const allowed = Object.fromEntries(['subscribe', 'publish', 'presence', 'history'].map((what) => [`allow-${what}-for-client`, true]))
const open = { presence: true, 'join-leave': true, 'history-size': 100, 'history-ttl': '300s', 'force-recovery': true, delta: true, 'tags-filter': true, ...allowed }
export const config = {
  'hmac-secret-key': SECRET,
  'ping-interval': '4s',
  'pong-timeout': '3s', // a browser that starts up may be busy for longer than a second
  'expiry-grace': '2s', // likewise
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

export const signed = (claims, header, secret = SECRET) => sign(secret, claims, header)
export const prefix = () => randomBytes(4).toString('hex')
const only = new RegExp(process.env.SCENARIO ?? '')

/** One test per scenario. Some wait for time to pass, so several run at once; each has channels and users of its own. */
export function all (title, run, which = scenarios) {
  describe(title, { concurrency: 10 }, () => {
    for (const name of Object.keys(which).filter((name) => only.test(name))) test(name, () => run(name))
  })
}

/** Opens a page of the gateway, be it a 404, into which the scenarios and the SDK's browser build can be loaded. */
export async function openPage (chromium, gateway, build) {
  const page = await chromium.browser.newPage()
  const files = { 'sdk.js': `node_modules/centrifuge/dist/${build}` }
  for (const file of ['scenarios.js', 'scenarios-recovery.js', 'scenarios-auth.js', 'scenarios-backend.js', 'harness.js']) files[file] = file
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
export async function runThere ({ name, protobuf, url, transport, prefix }) {
  const { Harness } = await import('/sdk/harness.js')
  const parts = await Promise.all(['', '-recovery', '-auth', '-backend'].map((part) => import(`/sdk/scenarios${part}.js`)))
  const { Centrifuge, WebSocket, EventSource, callAPI, signToken } = globalThis
  const harness = new Harness({ Centrifuge, WebSocket, EventSource, protobuf, url, transport, api: callAPI, sign: signToken, prefix })
  try {
    await parts.find(({ scenarios }) => scenarios[name]).scenarios[name](harness)
  } catch (error) {
    throw error instanceof Error ? error : new Error(JSON.stringify(error)) // the SDK rejects with plain objects
  } finally {
    harness.end()
  }
}
