// The admin page, in Chromium.
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Centrifuge } from 'centrifuge'
import WebSocket from 'ws'
import { startChromium } from './chromium.js'
import { startConfigured, startGateway } from './gateway.js'
import { once } from './harness.js'
import { startNATS } from './nats.js'
import { sign } from './token.js'

const SECRET = 'a secret that only this test knows, 0123456789'
const PASSWORD = 'correct horse'
const EVIL = '<img src=x onerror=pwned=1>'

let chromium
before(async () => { chromium = await startChromium() })
after(() => chromium?.stop())

/** Starts a gateway whose users are known, and whose channels anybody with a token may follow. */
function start (t, ...flags) {
  const may = Object.fromEntries(['subscribe', 'publish'].map((what) => [`allow-${what}-for-client`, true]))
  const options = { presence: true, 'history-size': 10, 'history-ttl': '300s', ...may }
  return startConfigured(t, {
    'hmac-secret-key': SECRET,
    'admin-password': PASSWORD,
    channels: { default: options, namespaces: { chat: options } }
  }, ...flags)
}

/** Opens the page and logs in. */
async function enter (t, gateway, password = gateway.adminPassword ?? PASSWORD) {
  const page = await chromium.openWindow(t, gateway.admin)
  await logIn(page, password)
  await page.locator('body[data-state=open]').waitFor()
  return page
}

async function logIn (page, password) {
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Log in' }).click()
}

/** Connects a client and subscribes it; it does not come back by itself. */
async function connect (t, gateway, user, channel) {
  const client = new Centrifuge(`${gateway.url}/connection/websocket`, { websocket: WebSocket, token: sign(SECRET, { sub: user }) })
  t.after(() => client.disconnect())
  const subscription = client.newSubscription(channel)
  const subscribed = once(subscription, 'subscribed')
  subscription.subscribe()
  client.connect()
  await subscribed
  return { client, subscription }
}

/** Waits until an element's text is as expected. */
async function says (page, selector, expected) {
  const { pattern } = typeof expected === 'string' ? {} : { pattern: expected.source }
  const read = () => page.locator(selector).textContent()
  let text
  for (let tries = 0; tries < 400; tries++) {
    text = await read()
    if (pattern ? new RegExp(pattern).test(text) : text === expected) return
    await page.waitForTimeout(25)
  }
  assert.fail(`${selector} says ${JSON.stringify(text)}, expected ${expected}`)
}

test('nobody gets in without the password, and a session ends with the logout', async (t) => {
  const { admin: url, adminPassword } = await startGateway(t)
  const page = await chromium.browser.newPage() // which complains of refused requests, as it should
  t.after(() => page.close())
  await page.goto(url)
  await logIn(page, 'not the password')
  await says(page, '#refused', 'the password is wrong')
  assert.equal(await page.getByRole('heading', { name: 'Nodes' }).isVisible(), false)
  await logIn(page, adminPassword)
  await page.locator('body[data-state=open]').waitFor()
  assert.equal(await page.evaluate(() => document.cookie), '') // scripts cannot see it
  await page.reload()
  await page.locator('body[data-state=open]').waitFor()
  const [before] = await chromium.browser.cookies(url)
  await page.getByRole('button', { name: 'Log out' }).click()
  await says(page, '#status', 'Logged out.')
  assert.equal((await chromium.browser.cookies(url)).length, 0)
  const stolen = await fetch(`${url}figures`, { headers: { Cookie: `${before.name}=${before.value}` } })
  assert.equal(stolen.status, 401)
  await page.reload()
  await page.getByLabel('Password').waitFor()
})

test('figures follow the clients, messages are counted, and nodes are listed', async (t) => {
  const gateway = await start(t)
  const page = await enter(t, gateway)
  await says(page, '#connections-now', '0')
  await says(page, '#memory', '–')
  const { client, subscription } = await connect(t, gateway, 'ann', 'chat:1')
  for (const [id, text] of [['connections-now', '1'], ['clients-now', '1'], ['channels-now', '1'], ['subscriptions-now', '1'], ['memory', /^\d.* (K|M)iB$/]]) {
    await says(page, `#${id}`, text)
  }
  const publishing = setInterval(() => subscription.publish({ text: 'x' }).catch(() => {}), 20)
  t.after(() => clearInterval(publishing))
  for (const id of ['messages-in', 'messages-out', 'bytes-in', 'bytes-out']) await says(page, `#${id}`, /^(?!0\b)\d/)
  await page.waitForFunction(() => document.querySelectorAll('#plots polyline').length === 10)
  await says(page, '#nodes tbody td:nth-child(3)', '1')
  clearInterval(publishing)
  client.disconnect()
  await says(page, '#connections-now', '0')
  await says(page, '#closed tbody td:last-child', '1')
})

test('channels show who is there and what was said, and what the page publishes arrives', async (t) => {
  const gateway = await start(t)
  const { subscription } = await connect(t, gateway, 'ann', 'chat:1')
  await connect(t, gateway, 'bob', 'news')
  const page = await enter(t, gateway)
  await page.getByRole('button', { name: 'List' }).click()
  await says(page, '#channels-note', '2 with subscribers')
  await page.getByLabel('Pattern').fill('chat:*')
  await page.getByRole('button', { name: 'List' }).click()
  await says(page, '#channels-note', '1 with subscribers')
  await page.getByRole('button', { name: 'chat:1' }).click()
  await says(page, '#presence-note', '1 here')
  await says(page, '#presence', /^ann /)
  await says(page, '#history-note', 'Offset 0, nothing kept')

  const arrived = once(subscription, 'publication')
  await page.getByLabel('Data, JSON').fill('{"text": "from the page"')
  await page.getByRole('button', { name: 'Publish' }).click()
  await says(page, '#publish-note', /^The data is not JSON: /)
  await page.getByLabel('Data, JSON').fill('{"text": "from the page"}')
  await page.getByRole('button', { name: 'Publish' }).click()
  assert.deepEqual((await arrived).data, { text: 'from the page' })
  await says(page, '#publish-note', 'Published, offset 1')
  await page.getByRole('button', { name: 'chat:1' }).click()
  await says(page, '#history code', '{"text":"from the page"}')

  await page.getByLabel('Pattern').fill('[')
  await page.getByRole('button', { name: 'List' }).click()
  await says(page, '#channels-note', /bad request|pattern/)
})

test('one connection and all of a user are disconnected', async (t) => {
  const gateway = await start(t)
  const [first, second] = [await connect(t, gateway, 'ann', 'chat:1'), await connect(t, gateway, 'ann', 'chat:2')]
  const bob = await connect(t, gateway, 'bob', 'chat:1')
  const gone = [first, second].map(({ client }) => new Promise((resolve) => client.on('disconnected', ({ code }) => resolve(code))))
  const page = await enter(t, gateway)
  await page.getByRole('textbox', { name: 'User' }).fill('ann')
  await page.getByRole('button', { name: 'Show' }).click()
  await says(page, '#users-note', '2 connections')
  await page.locator('#connections li', { hasText: 'chat:2' }).getByRole('button', { name: /^Disconnect client/ }).click()
  assert.equal(await gone[1], 3503)
  await page.locator('#connections li').nth(1).waitFor({ state: 'detached' }) // the client may hear of it first
  assert.equal(await page.locator('#connections li').count(), 1)
  assert.equal(first.client.state, 'connected')
  await page.getByRole('button', { name: 'Disconnect all' }).click()
  assert.equal(await gone[0], 3503)
  await says(page, '#users-note', 'Disconnected ann')
  await page.getByRole('button', { name: 'Show' }).click()
  await says(page, '#users-note', '0 connections')
  assert.equal(bob.client.state, 'connected')
})

test('of a cluster the page shows all nodes, and reaches clients of each', async (t) => {
  const nats = await startNATS(t)
  const gateways = []
  for (const name of ['east', 'north', 'west']) gateways.push(await start(t, '--nats', nats, '--name', name))
  const users = []
  for (const [i, gateway] of gateways.entries()) users.push(await connect(t, gateway, `user-${i}`, 'chat:1'))
  await connect(t, gateways[2], 'user-2', 'chat:2')
  const arrived = users.map(({ subscription }) => once(subscription, 'publication'))
  const page = await enter(t, gateways[0])
  const listed = (expected) => page.waitForFunction((expected) => {
    const rows = [...document.querySelectorAll('#nodes tbody tr')]
    return rows.map(({ cells }) => `${cells[0].textContent.trim()} ${cells[2].textContent.trim()}`).join() === expected
  }, expected)
  await listed('east 1,north 1,west 2')

  await page.getByRole('button', { name: 'List' }).click()
  await says(page, '#channels-note', '2 with subscribers')
  await page.getByRole('button', { name: 'chat:1' }).click()
  await says(page, '#presence-note', '3 here')
  await page.getByLabel('Data, JSON').fill('"to all"')
  await page.getByRole('button', { name: 'Publish' }).click()
  for (const publication of arrived) assert.equal((await publication).data, 'to all')
  await users[1].subscription.publish('from north')
  await page.getByRole('button', { name: 'chat:1' }).click()
  await page.waitForFunction(() => document.querySelectorAll('#history code').length === 2)

  await page.getByRole('textbox', { name: 'User' }).fill('user-2')
  await page.getByRole('button', { name: 'Show' }).click()
  await says(page, '#users-note', '2 connections')
  const gone = new Promise((resolve) => users[2].client.on('disconnected', ({ code }) => resolve(code)))
  await page.locator('#connections li', { hasText: 'chat:1' }).getByRole('button', { name: /^Disconnect client/ }).click()
  assert.equal(await gone, 3503)
  await listed('east 1,north 1,west 1')

  await gateways[1].stop('SIGKILL')
  await listed('east 1,west 1')
})

test('names and messages of clients are text, whatever they look like', async (t) => {
  const gateway = await start(t)
  const { subscription } = await connect(t, gateway, EVIL, EVIL)
  await subscription.publish({ [EVIL]: EVIL })
  const page = await enter(t, gateway)
  await page.getByRole('button', { name: 'List' }).click()
  await page.getByRole('button', { name: EVIL }).click()
  await says(page, '#channel-name', EVIL)
  await says(page, '#history code', JSON.stringify({ [EVIL]: EVIL }))
  await page.locator('#presence li', { hasText: EVIL }).waitFor()
  await page.getByRole('textbox', { name: 'User' }).fill(EVIL)
  await page.getByRole('button', { name: 'Show' }).click()
  await page.locator('#connections li', { hasText: EVIL }).waitFor()
  assert.deepEqual(await page.evaluate(() => [document.querySelectorAll('img, script:not([src])').length, typeof window.pwned]), [0, 'undefined'])
})

test('the page breaks no rule of its policy, which forbids inline scripts and other hosts', async (t) => {
  const gateway = await startGateway(t)
  const page = await chromium.browser.newPage()
  t.after(() => page.close())
  await page.addInitScript(() => {
    window.violations = []
    document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => window.violations.push(effectiveDirective))
  })
  await page.goto(gateway.admin)
  await logIn(page, gateway.adminPassword)
  await page.locator('body[data-state=open]').waitFor()
  await page.getByRole('button', { name: 'List' }).click()
  await says(page, '#channels-note', '0 with subscribers')
  assert.deepEqual(await page.evaluate(() => window.violations), [])
  await page.evaluate(async () => {
    const script = document.createElement('script')
    script.textContent = 'window.pwned = 1'
    document.body.append(script)
    await fetch('http://127.0.0.1:9/').catch(() => {})
  })
  await page.waitForFunction(() => window.violations.length === 2)
  assert.deepEqual(await page.evaluate(() => [window.violations, typeof window.pwned]), [['script-src-elem', 'connect-src'], 'undefined'])
})

test('on a phone the page fits the width, and every control has a name', async (t) => {
  const gateway = await start(t)
  const long = 'zwitschern'.repeat(24)
  const { subscription } = await connect(t, gateway, long, long)
  await subscription.publish(long)
  const page = await enter(t, gateway)
  await page.setViewportSize({ width: 360, height: 740 })
  await page.getByRole('button', { name: 'List' }).click()
  await page.getByRole('button', { name: long }).click()
  await page.locator('#history code').waitFor()
  await page.locator('#presence li').waitFor()
  await page.getByRole('textbox', { name: 'User' }).fill(long)
  await page.getByRole('button', { name: 'Show' }).click()
  await page.locator('#connections li').waitFor()
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme })
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360)
  }
  const unnamed = await page.evaluate(() => [...document.querySelectorAll('input, textarea, button')]
    .filter((e) => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())).map((e) => e.outerHTML))
  assert.deepEqual(unnamed, [])
})

if (process.env.SCREENSHOT) test('screenshot for the README', async (t) => {
  const gateway = await start(t, '--name', 'gateway-1')
  const users = []
  for (const [i, name] of ['ann', 'bob', 'carl', 'dora', 'eve', 'finn'].entries()) users.push(await connect(t, gateway, name, i % 2 ? 'chat:birds' : 'chat:wire'))
  const page = await enter(t, gateway)
  await page.setViewportSize({ width: 1280, height: 1100 })
  let n = 0
  const visitors = []
  const visiting = setInterval(async () => {
    if (visitors.length > 8 * Math.abs(Math.sin(n / 90))) visitors.shift().client.disconnect()
    else visitors.push(await connect(t, gateway, 'guest', 'chat:wire'))
  }, 1500)
  t.after(() => clearInterval(visiting))
  const talking = setInterval(() => { // now livelier, now calmer
    n++
    for (let i = 0; i < 3 + 2 * Math.sin(n / 25); i++) users[(n + i) % users.length].subscription.publish({ text: `tweet ${n}` }).catch(() => {})
  }, 100)
  t.after(() => clearInterval(talking))
  await page.waitForTimeout(140_000)
  await page.getByRole('button', { name: 'List' }).click()
  await page.getByRole('button', { name: 'chat:birds' }).click()
  await page.locator('#presence li').first().waitFor()
  await page.evaluate(() => window.scrollTo(0, 0))
  const folder = process.env.SCREENSHOT === '1' ? fileURLToPath(new URL('../../docs/images/', import.meta.url)) : process.env.SCREENSHOT
  await mkdir(folder, { recursive: true })
  await page.screenshot({ path: join(folder, 'admin.png') })
})
