// A NATS server for tests with several gateways: the one of the gateway's own version, built with Go.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** Starts one with JetStream on a free port, ends it with the test t, and returns its URL. */
export async function startNATS (t) {
  const folder = await mkdtemp(join(tmpdir(), 'roost-nats-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  const program = join(folder, 'nats-server')
  await promisify(execFile)('go', ['build', '-o', program, 'github.com/nats-io/nats-server/v2'], { cwd: fileURLToPath(new URL('../..', import.meta.url)) })
  const child = spawn(program, ['-js', '-sd', join(folder, 'data'), '-a', '127.0.0.1', '-p', '-1'], { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(child, 'exit')
  t.after(async () => {
    child.kill()
    await ended
  })
  let log = ''
  const ready = new Promise((resolve) => {
    createInterface(child.stderr).on('line', (line) => {
      log += `${line}\n`
      const found = /Listening for client connections on (\S+)/.exec(line)
      if (found) resolve(`nats://${found[1]}`)
    })
  })
  return Promise.race([ready, ended.then(() => { throw new Error(`the NATS server ended:\n${log}`) })])
}
