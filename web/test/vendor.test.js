// The SDK that the binary embeds is the one that the lock file names.
import assert from 'node:assert/strict'
import { readFile, readdir } from 'node:fs/promises'
import { test } from 'node:test'
import { folder, vendored } from './vendor.js'

test('web/vendor holds what the packages of the lock file hold', async () => {
  const expected = await vendored()
  assert.deepEqual((await readdir(folder, { recursive: true })).filter((name) => name !== 'roost').sort(), Object.keys(expected).sort())
  for (const [name, text] of Object.entries(expected)) {
    assert.ok(await readFile(new URL(name, folder), 'utf8') === text, `${name} differs: npm run vendor`)
  }
  const lock = JSON.parse(await readFile(new URL('package-lock.json', import.meta.url), 'utf8'))
  assert.ok(expected['LICENSES.txt'].startsWith(`centrifuge.js is dist/centrifuge.js of the npm package centrifuge ${lock.packages['node_modules/centrifuge'].version}, unchanged.`))
})
