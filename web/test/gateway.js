// Starts bin/roost on free ports for a test.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const binary = process.env.ROOST_BINARY ?? fileURLToPath(new URL('../../bin/roost', import.meta.url))

/** Starts a gateway and waits until it accepts; the test t stops it at its end if the test itself did not. */
export async function startGateway (t, ...flags) {
  const process = spawn(binary, ['serve', '--dev', '--address', '127.0.0.1:0', '--internal-address', '127.0.0.1:0', ...flags],
    { stdio: ['ignore', 'pipe', 'pipe'] })
  let log = ''
  process.stderr.on('data', (text) => { log += text })
  const ended = once(process, 'exit').then(([code, signal]) => ({ code, signal }))
  const stop = () => {
    process.kill('SIGTERM')
    return ended
  }
  t.after(stop)
  const ready = new Promise((resolve) => {
    createInterface(process.stdout).on('line', (line) => line.startsWith('ready ') && resolve(line))
  })
  const line = await Promise.race([ready, ended.then(({ code }) => { throw new Error(`the gateway ended with code ${code}:\n${log}`) })])
  const fields = Object.fromEntries(line.split(' ').slice(1).map((field) => field.split(/=(.*)/s)))
  return { page: fields.page, url: `ws://${fields.address}`, internal: `http://${fields.internal}`, stop }
}
