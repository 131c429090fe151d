// Refreshes web/vendor from the packages that the lock file names: npm --prefix web/test ci && npm --prefix web/test run vendor
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises'

const built = new URL('../../sdk/js/dist/', import.meta.url)
const packages = new URL('node_modules/', import.meta.url)
const read = (path) => readFile(new URL(path, packages), 'utf8')

/** What web/vendor must hold, by file name. The browser build of centrifuge contains the events package. */
export async function vendored () {
  const { version } = JSON.parse(await read('centrifuge/package.json'))
  const licences = []
  for (const name of ['centrifuge', 'events']) {
    licences.push(`${name} ${JSON.parse(await read(`${name}/package.json`)).version}\n\n${(await read(`${name}/LICENSE`)).trim()}\n`)
  }
  const sdk = await readdir(built).catch(() => { throw new Error('sdk/js is not built: npm --prefix web/test run sdk') })
  const modules = await Promise.all(sdk.filter((name) => name.endsWith('.js') && name !== 'index.js') // which needs the npm package
    .map(async (name) => [`roost/${name}`, await readFile(new URL(name, built), 'utf8')]))
  return {
    ...Object.fromEntries(modules),
    'centrifuge.js': await read('centrifuge/dist/centrifuge.js'),
    'LICENSES.txt': `centrifuge.js is dist/centrifuge.js of the npm package centrifuge ${version}, unchanged.\n\n${licences.join('\n')}`
  }
}

export const folder = new URL('../vendor/', import.meta.url)

if (process.argv[1] === new URL(import.meta.url).pathname) {
  await mkdir(new URL('roost', folder), { recursive: true })
  for (const [name, text] of Object.entries(await vendored())) await writeFile(new URL(name, folder), text)
}
