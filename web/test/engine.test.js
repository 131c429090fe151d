// The page of the built-in routes and the browser's own WebSocket, in Chromium.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startChromium } from './chromium.js'
import { startGateway } from './gateway.js'

let chromium
before(async () => { chromium = await startChromium() })
after(() => chromium?.stop())

const openWindow = (t, url) => chromium.openWindow(t, url)
const enginePage = async (t) => `${(await startGateway(t)).page}engine.html`

const connected = (page) => page.locator('body[data-state=open]').waitFor()

async function say (page, panel, text) {
  await page.locator(`#${panel} input`).fill(text)
  await page.locator(`#${panel} button`).click()
}

const lines = (page, panel) => page.locator(`#${panel}-log li .text`).allTextContents()

async function see (page, panel, text) {
  await page.locator(`#${panel}-log li .text`, { hasText: text }).first().waitFor()
}

test('the echo panel shows the answer, its round trip and the counts', async (t) => {
  const url = await enginePage(t)
  const page = await openWindow(t, url)
  await connected(page)
  assert.equal(await page.getByRole('status').textContent(), 'Connected')
  for (const text of ['first', '<b>second</b> 🐦']) {
    await say(page, 'echo', text)
    await see(page, 'echo', text)
  }
  assert.deepEqual(await lines(page, 'echo'), ['<b>second</b> 🐦', 'first'])
  assert.match(await page.locator('#trip').textContent(), /^\d+\.\d$/)
  await page.waitForFunction(() => ['sent', 'received'].every((id) => document.getElementById(id).textContent === '2'))
})

test('two windows see what each of them broadcasts', async (t) => {
  const url = await enginePage(t)
  const [left, right] = [await openWindow(t, url), await openWindow(t, url)]
  await Promise.all([connected(left), connected(right)])
  await say(left, 'broadcast', 'from the left')
  await Promise.all([see(left, 'broadcast', 'from the left'), see(right, 'broadcast', 'from the left')])
  await say(right, 'broadcast', 'from the right')
  await Promise.all([see(left, 'broadcast', 'from the right'), see(right, 'broadcast', 'from the right')])
  assert.deepEqual(await left.locator('#broadcast-log .from').allTextContents(), [await right.locator('#name').textContent(), 'you'])
  assert.deepEqual(await right.locator('#broadcast-log .from').allTextContents(), ['you', await left.locator('#name').textContent()])
})

test('a stopped gateway is named with its close code, and the page comes back with the next one', async (t) => {
  const first = await startGateway(t)
  const page = await openWindow(t, `${first.page}engine.html`)
  await connected(page)
  assert.deepEqual(await first.stop(), { code: 0, signal: null })
  await page.getByRole('status').filter({ hasText: 'The gateway went away (close code 1001)' }).waitFor()
  await page.getByText(/Next attempt in \d+ s\./).waitFor()
  await page.getByRole('button', { name: 'Try now' }).click()
  await page.getByText(/Next attempt in \d+ s\./).waitFor()
  assert.ok(await page.locator('#echo button').isDisabled())
  await startGateway(t, '--address', new URL(first.page).host)
  await connected(page)
  await say(page, 'echo', 'back again')
  await see(page, 'echo', 'back again')
})

test('on a phone the page fits the width, and every control has a name', async (t) => {
  const url = await enginePage(t)
  const page = await openWindow(t, url)
  await page.setViewportSize({ width: 360, height: 740 })
  await connected(page)
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360)
  for (const label of ['Message to echo', /^Message to everyone, from/]) await page.getByLabel(label).waitFor()
  for (const button of await page.getByRole('button').all()) assert.notEqual((await button.textContent()).trim(), '')
})

/** Runs in the browser: sends payloads over the browser's own WebSocket and tells what came back. */
async function echoes (url) {
  const text = 'ж🐦 '.repeat(2 ** 20 / 7).padEnd(1000, '.')
  const bytes = crypto.getRandomValues(new Uint8Array(65536))
  const socket = new WebSocket(url)
  socket.binaryType = 'arraybuffer'
  await new Promise((resolve, reject) => { socket.onopen = resolve; socket.onerror = reject })
  const exchange = (payload) => new Promise((resolve) => {
    socket.onmessage = (event) => resolve(event.data)
    socket.send(payload)
  })
  const result = {
    extensions: socket.extensions,
    textBytes: new TextEncoder().encode(text).length,
    text: await exchange(text) === text,
    binary: new Uint8Array(await exchange(bytes)).every((byte, index) => byte === bytes[index]),
    empty: (await exchange(new Uint8Array(0))).byteLength === 0
  }
  result.close = await new Promise((resolve) => { socket.onclose = (event) => resolve([event.wasClean, event.code]); socket.close(3000) })
  return result
}

for (const [name, flags, extension] of [['without compression', ['--no-deflate'], ''], ['with permessage-deflate', ['--deflate'], 'permessage-deflate']]) {
  test(`chromium's WebSocket: 1 MB of text, binary and empty messages ${name}`, async (t) => {
    const gateway = await startGateway(t, ...flags)
    const page = await openWindow(t, `${gateway.page}engine.html`)
    for (const route of ['/echo', '/echo-pool']) {
      const { extensions, textBytes, ...rest } = await page.evaluate(echoes, gateway.url + route)
      assert.equal(extensions.split(';')[0], extension)
      assert.ok(textBytes > 1e6, `${textBytes} bytes`)
      assert.deepEqual(rest, { text: true, binary: true, empty: true, close: [true, 3000] })
    }
  })
}
