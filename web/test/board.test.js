// The board of the development page, in Chromium: what one window does shows in the other.
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { startChromium } from './chromium.js'
import { startGateway } from './gateway.js'

let chromium
before(async () => { chromium = await startChromium() })
after(() => chromium?.stop())

async function open (t, url) {
  const page = await chromium.openWindow(t, `${url}board.html`)
  await page.locator('body[data-state=open]').waitFor()
  return page
}

const boxes = (page) => page.locator('.card').evaluateAll((all) => all.map((card) => card.style.transform))

/** Waits until a page answers as expected. */
async function becomes (page, read, expected) {
  let seen
  for (let tries = 0; tries < 400; tries++) {
    seen = await read()
    if (JSON.stringify(seen) === JSON.stringify(expected)) return
    await page.waitForTimeout(25)
  }
  assert.deepEqual(seen, expected)
}

async function drag (page, card, x, y) {
  await page.bringToFront()
  const box = await page.locator('.card').nth(card).boundingBox()
  await page.mouse.move(box.x + 20, box.y + 8)
  await page.mouse.down()
  for (let step = 1; step <= 10; step++) await page.mouse.move(box.x + 20 + x * step / 10, box.y + 8 + y * step / 10)
  await page.mouse.up()
}

test('two windows edit a board at once', async (t) => {
  const { page: url } = await startGateway(t)
  const ann = await open(t, url)
  const bob = await open(t, url)
  for (const page of [ann, bob]) await becomes(page, () => page.locator('#windows').textContent(), '2')

  await ann.bringToFront()
  await ann.getByRole('button', { name: 'Add a card' }).click()
  await ann.getByLabel('Text').fill('from Ann')
  await bob.locator('.card').waitFor()
  await becomes(bob, () => bob.getByLabel('Text').inputValue(), 'from Ann')
  await bob.bringToFront()
  await bob.getByLabel('Text').fill('and Bob')
  await becomes(ann, () => ann.getByLabel('Text').inputValue(), 'and Bob')

  const [before] = await boxes(ann)
  await drag(bob, 0, 120, 90)
  const [moved] = await boxes(bob)
  assert.notEqual(moved, before)
  await becomes(ann, () => boxes(ann), [moved])
  await ann.locator('.pointer').waitFor({ state: 'attached' })
  assert.match(await bob.locator('#latency').textContent(), /^\d+\.\d ms, median \d+\.\d ms$/)

  const folder = process.env.SCREENSHOTS
  if (folder) {
    await mkdir(folder, { recursive: true })
    await ann.bringToFront()
    await ann.screenshot({ path: join(folder, 'board.png') })
  }
  await ann.bringToFront()
  await ann.getByRole('button', { name: 'Remove' }).click()
  for (const page of [ann, bob]) await becomes(page, () => boxes(page), [])
  await bob.close()
  await becomes(ann, () => ann.locator('#windows').textContent(), '1')
})

test('what happens while the connection is cut follows', async (t) => {
  const { page: url } = await startGateway(t)
  const ann = await open(t, url)
  const bob = await open(t, url)
  await ann.bringToFront()
  await ann.getByRole('button', { name: 'Add a card' }).click()
  await bob.locator('.card').waitFor()
  await ann.getByRole('button', { name: 'Cut the connection' }).click()
  await ann.locator('body:not([data-state=open])').waitFor()
  await ann.getByLabel('Text').fill('written offline')
  const [before] = await boxes(bob)
  await drag(bob, 0, 60, 30)
  const [moved] = await boxes(bob)
  assert.notEqual(moved, before)
  await bob.getByRole('button', { name: 'Add a card' }).click()
  await ann.bringToFront()
  await ann.getByRole('button', { name: 'Connect again' }).click()
  await ann.locator('body[data-state=open]').waitFor()
  await becomes(ann, async () => (await boxes(ann)).length, 2)
  for (const page of [ann, bob]) await becomes(page, async () => (await page.getByLabel('Text').evaluateAll((all) => all.map(({ value }) => value))).sort(), ['', 'written offline'])
  for (const page of [ann, bob]) assert((await boxes(page)).includes(moved), 'the text of one took back the move of the other')
})
