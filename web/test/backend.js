// A backend that decides on clients of the tests by the names they give themselves, and on subscriptions by their channels.
import { once } from 'node:events'
import { createServer } from 'node:http'

const STAY = 2 // seconds that it lets in for
const until = () => Math.floor(Date.now() / 1000) + STAY
const asked = new Map() // how often, by event and what about

const count = (key) => {
  asked.set(key, (asked.get(key) ?? 0) + 1)
  return asked.get(key)
}

function reply ({ event, user = '', method, channel = '', data, b64data, headers }) {
  const refused = { error: { code: 103, message: 'permission denied' } }
  const what = channel || user
  switch (event) {
    case 'connect':
      if (data?.name.endsWith('stranger')) return refused
      if (data?.name.endsWith('banned')) return { disconnect: { code: 4501, reason: 'never' } }
      return { result: { user: data?.name, expire_at: until(), data: { welcome: data?.name, cookie: headers?.cookie } } }
    case 'subscribe': return what.endsWith('closed') ? refused : { result: { expire_at: until(), data: { topic: channel } } }
    case 'publish': return data?.rude ? { error: { code: 1000, message: 'be polite' } } : { result: { data: { from: user, said: data ?? b64data } } }
    case 'rpc': return { result: { data: asked.get(`${method} ${data}`) ?? 0 } }
    default: // refresh, sub_refresh
      count(`${event} ${what}`)
      if (what.endsWith('expires')) return { result: { expired: true } }
      if (what.endsWith('thrown out')) return { disconnect: { code: 4500, reason: 'out' } }
      if (what.endsWith('forgotten')) return { error: { code: 100, message: 'I do not know' } }
      return { result: { expire_at: until() } }
  }
}

/** Starts it on a free port. */
export async function startBackend () {
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const part of request.setEncoding('utf8')) body += part
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(reply(JSON.parse(body))))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { url: `http://127.0.0.1:${server.address().port}/`, stop: () => { server.closeAllConnections(); server.close() } }
}

/** The gateway that it decides for. */
export const config = (url) => ({
  'hmac-secret-key': 'a secret that only this test knows, 0123456789',
  'expiry-grace': '100ms', // a client that needs it was not refreshed in time
  'allowed-origins': ['*'],
  backends: { servers: { app: { url, timeout: '10s' } }, connect: 'app', refresh: 'app', rpc: [{ method: '*', backend: 'app' }], headers: ['Cookie'] },
  channels: { namespaces: { room: { 'subscribe-backend': 'app', 'publish-backend': 'app', 'sub-refresh-backend': 'app' } } }
})
