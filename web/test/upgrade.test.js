// Who is let in before there is a connection: tokens of the upgrade request, and origins of pages.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Centrifuge } from 'centrifuge'
import WebSocket from 'ws'
import { startChromium } from './chromium.js'
import { startConfigured, startGateway } from './gateway.js'
import { once, seconds } from './harness.js'
import { sign } from './token.js'

const SECRET = 'a secret that only this test knows, 0123456789'
const channels = { default: { presence: true, 'allow-subscribe-for-client': true, 'allow-presence-for-client': true } }

let chromium
before(async () => { chromium = await startChromium() })
after(() => chromium?.stop())

/** The status that an upgrade request is answered with. */
const status = (url, options) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url, options)
  socket.on('open', () => { socket.terminate(); resolve(101) })
  socket.on('unexpected-response', (_, response) => { response.destroy(); resolve(response.statusCode) })
  socket.on('error', reject)
})

test('with upgrade-auth a connection begins with a good token, or not at all', async (t) => {
  const gateway = await startConfigured(t, {
    'hmac-secret-key': SECRET, 'upgrade-auth': true, 'token-query': 'token', 'token-cookie': 'session', 'token-header': 'X-Token', channels
  })
  const url = `${gateway.url}/connection/websocket`
  const claims = { sub: 'ann', exp: seconds() + 60, info: { name: 'Ann' } }
  const good = sign(SECRET, claims)
  for (const [what, token, expected] of [
    ['a good one', good, 101], ['an expired one', sign(SECRET, { ...claims, exp: seconds() - 60 }), 401],
    ['one for another key', sign('the key of somebody else, 0123456789', claims), 401], ['an unsigned one', sign(SECRET, claims, { alg: 'none' }), 401],
    ['nonsense', 'nonsense', 401], ['none', '', 401]
  ]) {
    for (const [where, address, headers] of [
      ['query', `${url}?token=${token}`, {}], ['header', url, { 'X-Token': token }], ['bearer', url, { Authorization: `Bearer ${token}` }],
      ['cookie', url, { Cookie: `session=${token}` }]
    ]) assert.equal(await status(address, { headers }), expected, `${what} by ${where}`)
  }
  assert.deepEqual(await gateway.api('block_user', { user: 'bob' }), { result: {} })
  assert.equal(await status(`${url}?token=${sign(SECRET, { ...claims, sub: 'bob' })}`), 403, 'a blocked user')

  const client = new Centrifuge(`${url}?token=${good}`, { websocket: WebSocket })
  t.after(() => client.disconnect())
  const subscription = client.newSubscription('room')
  const subscribed = once(subscription, 'subscribed')
  subscription.subscribe()
  client.connect()
  await subscribed
  const [info] = Object.values((await subscription.presence()).clients)
  assert.deepEqual([info.user, info.connInfo], ['ann', { name: 'Ann' }])
})

/** Runs in the browser: tells whether a WebSocket opens. */
const opens = (url) => new Promise((resolve) => {
  const socket = new WebSocket(url)
  socket.onopen = () => { socket.close(); resolve(true) }
  socket.onclose = () => resolve(false)
})

test('pages of another origin are kept out unless they are allowed', async (t) => {
  const elsewhere = await startGateway(t)
  const page = await chromium.browser.newPage()
  t.after(() => page.close())
  for (const [what, allowed, expected, own] of [ // the last: for its own pages
    ['same host only', [], false, true], ['another origin', ['https://example.org'], false, false],
    ['this origin', [new URL(elsewhere.page).origin], true, false], ['any', ['*'], true, true]
  ]) {
    const gateway = await startConfigured(t, { 'hmac-secret-key': SECRET, 'allowed-origins': allowed })
    const url = `${gateway.url}/connection/websocket`
    await page.goto(`${elsewhere.page}nothing`)
    assert.equal(await page.evaluate(opens, url), expected, what)
    await page.goto(`${gateway.page}nothing`)
    assert.equal(await page.evaluate(opens, url), own, `its own page, ${what} allowed`)
  }
})
