// Answers what clients of roost ask, over HTTP, with nothing but Node. Rpc "echo" returns its data, "time" the time, and
// "signout" ends the client when its time is over; messages are logged. Whoever gives a name may connect, for a while, and
// is then asked about again. room:private-ann is ann's alone, other rooms are open to all, and what is published is signed.
// Put this in roost.yaml:
//
//   backends:
//     servers:
//       example:
//         url: http://127.0.0.1:3000/
//         headers: {X-Secret: "a secret of both"}
//     rpc:
//       - {method: "*", backend: example}
//     message: example
//     connect: example
//     refresh: example
//   channels:
//     namespaces:
//       room: {subscribe-backend: example, publish-backend: example, sub-refresh-backend: example}
//
// and start it with
//
//   SECRET="a secret of both" PORT=3000 node examples/backend-node/server.mjs
import { timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const MAX_REQUEST = 1 << 20 // bytes
const secret = Buffer.from(process.env.SECRET ?? '')

const stay = Number(process.env.STAY ?? 3600) // seconds that a client is let in for
const gone = new Set() // users that signed out
const denied = { error: { code: 103, message: 'permission denied' } }
const until = () => Math.floor(Date.now() / 1000) + stay

/** Returns the answer to a request: a result, an error or a disconnect. Data that is not JSON comes as b64data. */
function reply ({ event, client, user, method, channel = '', data, b64data }) {
  const [, owner] = channel.match(/^room:private-(.*)$/s) ?? []
  if (event === 'rpc') return rpc(method, user, data, b64data)
  if (event === 'message') {
    console.error(`${user} (client ${client}) says`, data ?? b64data)
    return { result: {} }
  }
  if (event === 'connect') {
    if (!data?.name) return denied
    gone.delete(data.name)
    return { result: { user: data.name, expire_at: until() } }
  }
  if (event.endsWith('refresh') && gone.has(user)) return { result: { expired: true } } // refresh, sub_refresh
  if (owner !== undefined && owner !== user) return denied // subscribe, publish
  if (event === 'publish') return { result: { data: { from: user, text: data } } }
  return { result: { expire_at: until() } }
}

function rpc (method, user, data, b64data) {
  switch (method) {
    case 'echo': return { result: { data, b64data } } // what is undefined is left out
    case 'time': return { result: { data: { time: new Date().toISOString() } } }
    case 'signout': {
      gone.add(user)
      return { result: {} }
    }
    default: return { error: { code: 404, message: `there is no method ${method}` } }
  }
}

const server = createServer(async (request, response) => {
  const given = Buffer.from(request.headers['x-secret'] ?? '')
  if (given.length !== secret.length || !timingSafeEqual(given, secret)) return fail(response, 401, 'the X-Secret header is not the right one')
  try {
    const parts = []
    let size = 0
    for await (const part of request.iterator({ destroyOnReturn: false })) {
      size += part.length
      if (size > MAX_REQUEST) return fail(response, 413, 'the request is too large')
      parts.push(part)
    }
    const answer = JSON.stringify(reply(JSON.parse(Buffer.concat(parts))))
    response.writeHead(200, { 'Content-Type': 'application/json' }).end(answer)
  } catch (error) {
    fail(response, 400, error.message)
  }
})

function fail (response, status, text) {
  response.writeHead(status, { 'Content-Type': 'text/plain', Connection: 'close' }).end(text)
}

server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  const { address, port } = server.address()
  console.log(`ready address=${address}:${port}`)
})
