// What the most used Node client sees, with compression and without.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { test } from 'node:test'
import WebSocket from 'ws'
import { startGateway } from './gateway.js'

async function open (t, url, options) {
  const socket = new WebSocket(url, options)
  t.after(() => socket.terminate())
  await once(socket, 'open')
  return socket
}

const payloads = [
  ['one byte', 'x', false],
  ['empty', '', false],
  ['text of several scripts', 'zwitschern, щебет, さえずり, 🐦'.repeat(50), false],
  ['125, 126 and 65,536 bytes lie at the edges of the length forms: 125', 'a'.repeat(125), false],
  ['126', 'b'.repeat(126), false],
  ['65,536', 'c'.repeat(65536), false],
  ['noise of 300,000 bytes, which deflate cannot shrink', randomBytes(300000), true]
]

for (const route of ['/echo', '/echo-pool']) {
  for (const [name, flags, perMessageDeflate, extension] of [
    ['compression agreed', ['--deflate'], { threshold: 0 }, 'permessage-deflate'],
    ['compression not offered', ['--deflate'], false, ''],
    ['compression refused', ['--no-deflate'], { threshold: 0 }, '']
  ]) {
    test(`${route}, ${name}`, async (t) => {
      const gateway = await startGateway(t, ...flags)
      const socket = await open(t, gateway.url + route, { perMessageDeflate })
      assert.equal(socket.extensions, extension)
      for (const [what, payload, binary] of payloads) {
        const answer = once(socket, 'message')
        socket.send(payload)
        const [data, isBinary] = await answer
        assert.equal(isBinary, binary, what)
        assert.ok(data.equals(Buffer.from(payload)), what)
      }
    })
  }
}

test('echoes keep their order when many are on the way', async (t) => {
  const gateway = await startGateway(t)
  for (const route of ['/echo', '/echo-pool']) {
    const socket = await open(t, gateway.url + route, {})
    const received = []
    const all = new Promise((resolve) => {
      socket.on('message', (data) => received.push(data.toString()) === 2000 && resolve())
    })
    const sent = Array.from({ length: 2000 }, (_, index) => `message ${index}`)
    sent.forEach((text) => socket.send(text))
    await all
    assert.deepEqual(received, sent)
  }
})

test('a broadcast reaches every client, with compression and without, and the sender', async (t) => {
  const gateway = await startGateway(t, '--deflate')
  const sockets = await Promise.all([true, false, true, false].map((perMessageDeflate) =>
    open(t, `${gateway.url}/broadcast`, { perMessageDeflate })))
  const answers = sockets.map((socket) => once(socket, 'message'))
  const text = 'to all of you '.repeat(100)
  sockets[0].send(text)
  for (const [data] of await Promise.all(answers)) assert.equal(data.toString(), text)
})

test('pings are answered and a close is returned with its code', async (t) => {
  const gateway = await startGateway(t)
  const socket = await open(t, `${gateway.url}/echo`, {})
  const pong = once(socket, 'pong')
  socket.ping('are you there')
  assert.equal((await pong)[0].toString(), 'are you there')
  const closed = once(socket, 'close')
  socket.close(4321, 'enough')
  assert.equal((await closed)[0], 4321)
})

test('a stopping gateway says 1001 to everyone and ends with code 0', async (t) => {
  const gateway = await startGateway(t)
  const sockets = await Promise.all(Array.from({ length: 20 }, () => open(t, `${gateway.url}/echo`, {})))
  const closes = sockets.map((socket) => once(socket, 'close'))
  assert.deepEqual(await gateway.stop(), { code: 0, signal: null })
  for (const [code] of await Promise.all(closes)) assert.equal(code, 1001)
})
