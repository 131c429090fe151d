// The chat room of the development page, in Chromium.
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startChromium } from './chromium.js'
import { startGateway } from './gateway.js'

let chromium
before(async () => { chromium = await startChromium() })
after(() => chromium?.stop())

/** Opens windows of the chat room, each under the name of its own. */
async function enter (t, url, ...names) {
  const windows = []
  for (const name of names) {
    const page = await chromium.openWindow(t, url)
    await connected(page)
    await rename(page, name)
    windows.push(page)
  }
  for (const page of windows) await present(page, names)
  return windows
}

const connected = (page) => page.locator('body[data-state=open]').waitFor()

async function rename (page, name) {
  await page.bringToFront() // others draw seldom, and are clicked as seldom
  await page.getByLabel('Your name').fill(name)
  await page.getByRole('button', { name: 'Change' }).click()
}

async function say (page, text) {
  await page.bringToFront()
  await page.getByLabel('Message', { exact: true }).fill(text)
  await page.getByRole('button', { name: 'Send' }).click()
}

/** Waits until the page's elements of a selector have these texts, in this order or, where they are sorted, in any. */
async function shows (page, selector, expected, sorted = false) {
  const read = async () => {
    const texts = await page.locator(selector).allTextContents()
    return sorted ? texts.sort() : texts
  }
  const wanted = sorted ? [...expected].sort() : expected
  let texts
  for (let tries = 0; tries < 200; tries++) {
    texts = await read()
    if (JSON.stringify(texts) === JSON.stringify(wanted)) return
    await page.waitForTimeout(25)
  }
  assert.deepEqual(texts, wanted)
}

const messages = (page, expected) => shows(page, '#talk .text', expected)

async function present (page, names) {
  const list = async () => (await page.locator('#here b').allTextContents()).map((name) => name.replace(' (you)', ''))
  let seen
  for (let tries = 0; tries < 200; tries++) {
    seen = await list()
    if (JSON.stringify([...seen].sort()) === JSON.stringify([...names].sort())) return
    await page.waitForTimeout(25)
  }
  assert.deepEqual(seen, names)
}

test('two windows chat, see each other come and go, and how long delivery took', async (t) => {
  const { page: url } = await startGateway(t)
  const [ann, bob] = await enter(t, url, 'Ann', 'Bob')
  assert.equal(await ann.getByRole('status').textContent(), 'Connected')
  await say(ann, 'from Ann')
  for (const page of [ann, bob]) await messages(page, ['from Ann'])
  await say(bob, 'from Bob')
  for (const page of [ann, bob]) await messages(page, ['from Ann', 'from Bob'])
  await shows(bob, '#talk li:has(.text) b', ['Ann', 'Bob'])
  assert.match(await ann.locator('#delivery').textContent(), /^\d+\.\d ms, median \d+\.\d ms$/)
  await shows(ann, '#talk .join', ['Bob joined'])
  assert.deepEqual([await ann.locator('.bird').count(), await ann.locator('#count').textContent()], [2, '2'])

  const carl = await chromium.openWindow(t, url)
  await connected(carl)
  await messages(carl, ['from Ann', 'from Bob'])
  await rename(carl, 'Carl')
  for (const page of [ann, bob, carl]) await present(page, ['Ann', 'Bob', 'Carl'])
  await carl.goto('about:blank')
  for (const page of [ann, bob]) await present(page, ['Ann', 'Bob'])
  await shows(ann, '#talk .leave', ['Carl left'])
})

test('a cut connection loses nothing and doubles nothing', async (t) => {
  const { page: url } = await startGateway(t)
  const [ann, bob] = await enter(t, url, 'Ann', 'Bob')
  await say(bob, 'before')
  await messages(ann, ['before'])
  await ann.getByRole('button', { name: 'Cut the connection' }).click()
  await ann.getByRole('status').filter({ hasText: 'Cut' }).waitFor()
  assert.ok(await ann.getByRole('button', { name: 'Send' }).isDisabled())
  await present(bob, ['Bob'])
  const missed = ['one', 'two', 'three', 'four', 'five']
  for (const text of missed) await say(bob, text)
  await messages(bob, ['before', ...missed])
  await messages(ann, ['before'])
  await ann.getByRole('button', { name: 'Connect again' }).click()
  await connected(ann)
  await messages(ann, ['before', ...missed])
  await shows(ann, '#talk .back', ['Back again, 5 missed messages recovered'])
  await shows(ann, '#recovered', ['5'])
  for (const page of [ann, bob]) await present(page, ['Ann', 'Bob'])
  await say(ann, 'and on')
  for (const page of [ann, bob]) await messages(page, ['before', ...missed, 'and on'])

  await ann.getByRole('button', { name: 'Cut the connection' }).click()
  await ann.getByRole('button', { name: 'Connect again' }).click()
  await shows(ann, '#talk .back', ['Back again, 5 missed messages recovered', 'Back again, nothing was missed'])
  await messages(ann, ['before', ...missed, 'and on'])
})

test('the page says that the gateway went away, and comes back with the next one', async (t) => {
  const first = await startGateway(t)
  const [ann] = await enter(t, first.page, 'Ann')
  await say(ann, 'before')
  await messages(ann, ['before'])
  assert.deepEqual(await first.stop(), { code: 0, signal: null })
  await ann.getByRole('status').filter({ hasText: 'Connection lost, trying again' }).waitFor()
  await startGateway(t, '--address', new URL(first.page).host)
  await connected(ann)
  await shows(ann, '#talk .bad', ['Back again, but some messages could not be recovered']) // it kept them in memory
  await say(ann, 'after')
  await messages(ann, ['before', 'after'])
  await present(ann, ['Ann'])
})

test('a window that the server disconnects or unsubscribes says so, and can come back', async (t) => {
  const { page: url, api } = await startGateway(t)
  const [ann] = await enter(t, url, 'Ann')
  const { result } = await api('presence', { channel: 'room' })
  await api('disconnect', { client: Object.keys(result.presence)[0] })
  await ann.getByRole('status').filter({ hasText: 'Disconnected (3503: force disconnect)' }).waitFor()
  await ann.getByRole('button', { name: 'Connect again' }).click()
  await connected(ann)
  await say(ann, 'back')
  await messages(ann, ['back'])
  await present(ann, ['Ann'])
  const again = await api('presence', { channel: 'room' })
  await api('unsubscribe', { client: Object.keys(again.result.presence)[0], channel: 'room' })
  await shows(ann, '#talk .bad', ['The gateway ended the subscription (2000: server unsubscribe)'])
})

test('what others say and how they are called is text, whatever it looks like', async (t) => {
  const { page: url, api } = await startGateway(t)
  const name = '<img src=x onerror=pwned=1>'
  const [ann, bob] = await enter(t, url, 'Ann', name)
  const evil = '<img src=x onerror="pwned=1"><script>pwned=1</script><a href="javascript:pwned=1">x</a>'
  await say(bob, evil)
  await messages(ann, [evil])
  await shows(ann, '#talk .join', [`${name} joined`])
  // Anybody may publish anything.
  const odd = [evil, 5, null, [evil], { text: { evil } }, { text: evil, from: evil, at: evil, id: evil }, { text: 'late', at: 1e300 }, { text: '\u202eright to left' }]
  for (const data of odd) assert.equal((await api('publish', { channel: 'room', data })).error, undefined)
  await api('publish', { channel: 'room-names', data: { name: evil } })
  const texts = [evil, evil, '5', 'null', JSON.stringify([evil]), JSON.stringify({ text: { evil } }), evil, 'late', '\u202eright to left']
  for (const page of [ann, bob]) {
    await messages(page, texts)
    assert.deepEqual(await page.evaluate(() => [document.querySelectorAll('#talk :is(img, script, a), #here :is(img, script)').length, typeof window.pwned]), [0, 'undefined'])
  }
  await ann.reload()
  await messages(ann, texts)
  assert.equal(await ann.evaluate(() => typeof window.pwned), 'undefined')
})

test('the page forbids inline scripts and connections to elsewhere', async (t) => {
  const { page: url } = await startGateway(t)
  const page = await chromium.browser.newPage()
  t.after(() => page.close())
  await page.goto(url)
  const blocked = await page.evaluate(async () => {
    const violations = []
    document.addEventListener('securitypolicyviolation', ({ effectiveDirective }) => violations.push(effectiveDirective))
    const script = document.createElement('script')
    script.textContent = 'window.pwned = 1'
    document.body.append(script)
    await fetch('http://127.0.0.1:9/').catch(() => {})
    await new Promise((resolve) => setTimeout(resolve, 100))
    return { violations, pwned: window.pwned }
  })
  assert.deepEqual(blocked, { violations: ['script-src-elem', 'connect-src'], pwned: undefined })
})

test('on a phone the page fits the width, and every control has a name', async (t) => {
  const { page: url } = await startGateway(t)
  const [page] = await enter(t, url, 'Ann')
  await page.setViewportSize({ width: 360, height: 740 })
  await say(page, 'zwitschern'.repeat(60))
  await page.locator('#talk .text').waitFor()
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360)
  for (const label of ['Message', 'Your name']) await page.getByLabel(label, { exact: true }).first().waitFor()
  for (const button of await page.getByRole('button').all()) assert.notEqual((await button.textContent()).trim(), '')
})

if (process.env.SCREENSHOT) test('screenshot for the README', async (t) => {
  const { page: url } = await startGateway(t)
  const [ann, bob] = await enter(t, url, 'Ann', 'Bob', 'Carl', 'Dora')
  for (const [from, text] of [[bob, 'Anyone on this wire?'], [ann, 'Yes, and very quietly.'], [bob, 'How many fit?'], [ann, 'A million, they say.']]) {
    await say(from, text)
    await shows(from, '#talk li:has(.text):last-child .text', [text])
  }
  await ann.getByRole('button', { name: 'Cut the connection' }).click()
  for (const text of ['Did you get this?', 'And this?']) await say(bob, text)
  await bob.locator('#talk .text', { hasText: 'And this?' }).waitFor()
  await ann.getByRole('button', { name: 'Connect again' }).click()
  await ann.locator('#talk .back').waitFor()
  await say(ann, 'Every word, once.')
  await present(ann, ['Ann', 'Bob', 'Carl', 'Dora'])
  await ann.bringToFront()
  await ann.waitForTimeout(1000)
  const folder = process.env.SCREENSHOT === '1' ? fileURLToPath(new URL('../../docs/images/', import.meta.url)) : process.env.SCREENSHOT
  await mkdir(folder, { recursive: true })
  await ann.screenshot({ path: join(folder, 'dev-page.png') })
  await ann.setViewportSize({ width: 390, height: 844 })
  await ann.screenshot({ path: join(folder, 'dev-page-phone.png') })
})
