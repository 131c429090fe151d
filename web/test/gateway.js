// Starts bin/roost on free ports for a test.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const binary = process.env.ROOST_BINARY ?? fileURLToPath(new URL('../../bin/roost', import.meta.url))
const API_KEY = 'the key of the tests'

/** Starts a gateway for development; see serve. */
export const startGateway = (t, ...flags) => serve(t, ['--dev', ...flags])

/** Starts a gateway with the config, an object that holds what the config file may hold, and flags; see serve. */
export async function startConfigured (t, config, ...flags) {
  const folder = await mkdtemp(join(tmpdir(), 'roost-config-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const file = join(folder, 'roost.yaml')
  await writeFile(file, JSON.stringify(config)) // which is YAML too
  const gateway = await serve(t, ['--config', file, ...flags])
  if (!config['tls-cert']) return gateway
  return { ...gateway, page: gateway.page.replace('http:', 'https:'), url: gateway.url.replace('ws:', 'wss:') }
}

/** Starts a gateway, without storage unless a flag names some, and waits until it accepts; the test t stops it at its end if the test itself did not. */
async function serve (t, flags) {
  const storage = flags.includes('--data') || flags.includes('--nats') ? [] : ['--memory']
  const child = spawn(binary, ['serve', '--address', '127.0.0.1:0', '--internal-address', '127.0.0.1:0', ...storage, ...flags],
    { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ROOST_API_KEY: API_KEY } })
  let log = ''
  child.stderr.on('data', (text) => { log += text })
  const ended = once(child, 'exit').then(([code, signal]) => ({ code, signal }))
  const stop = (signal = 'SIGTERM') => {
    child.kill(signal)
    return ended
  }
  t.after(() => stop())
  const ready = new Promise((resolve) => {
    createInterface(child.stdout).on('line', (line) => line.startsWith('ready ') && resolve(line))
  })
  const line = await Promise.race([ready, ended.then(({ code }) => { throw new Error(`the gateway ended with code ${code}:\n${log}`) })])
  const fields = Object.fromEntries(line.split(' ').slice(1).map((field) => field.split(/=(.*)/s)))
  const internal = `http://${fields.internal}`
  return {
    page: `http://${fields.address}/`,
    admin: `${internal}/admin/`,
    adminPassword: fields.admin_password,
    url: `ws://${fields.address}`,
    api: (method, body) => api(internal, method, body),
    stop
  }
}

/** Calls a method of the server's HTTP API and returns its answer. */
async function api (internal, method, body) {
  const answer = await fetch(`${internal}/api/${method}`, {
    method: 'POST', headers: { 'Content-Type': 'application/json', 'X-API-Key': API_KEY }, body: JSON.stringify(body)
  })
  if (answer.status !== 200) throw new Error(`POST /api/${method}: ${answer.status} ${await answer.text()}`)
  return answer.json()
}
