// Starts Chromium with a profile of its own.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

/** Starts it with options of Playwright, if any. Returns a browser context, the function that opens a window in it, and the one that ends it. */
export async function startChromium (options = {}) {
  const profile = await mkdtemp(join(tmpdir(), 'roost-chromium-'))
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    ...options,
    viewport: { width: 1280, height: 800 },
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run',
      '--disable-renderer-backgrounding', '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows']
  })
  const stop = async () => {
    await browser.close()
    await rm(profile, { recursive: true, force: true })
  }
  return { browser, stop, openWindow: (t, url) => openWindow(browser, t, url) }
}

/** Opens a window and fails the test on anything the page complains about, unless it is of a lost connection. */
async function openWindow (browser, t, url) {
  const page = await browser.newPage()
  const complaints = []
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('console', (message) => message.type() === 'error' && !/ERR_CONNECTION_REFUSED/.test(message.text()) && complaints.push(message.text()))
  t.after(async () => {
    await page.close()
    assert.deepEqual(complaints, [])
  })
  await page.goto(url)
  return page
}
