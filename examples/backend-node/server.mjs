// Answers what clients of roost ask, over HTTP, with nothing but Node: rpc "echo" returns its data, rpc "time" the
// time, and messages are logged. Put this in roost.yaml:
//
//   backends:
//     servers:
//       example:
//         url: http://127.0.0.1:3000/
//         headers: {X-Secret: "a secret of both"}
//     rpc:
//       - {method: "*", backend: example}
//     message: example
//
// and start it with
//
//   SECRET="a secret of both" PORT=3000 node examples/backend-node/server.mjs
import { timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

const MAX_REQUEST = 1 << 20 // bytes
const secret = Buffer.from(process.env.SECRET ?? '')

/** Returns the answer to a request: a result, an error or a disconnect. Data that is not JSON comes as b64data. */
function reply ({ event, client, user, method, data, b64data }) {
  if (event === 'message') {
    console.error(`${user} (client ${client}) says`, data ?? b64data)
    return { result: {} }
  }
  switch (method) {
    case 'echo': return { result: { data, b64data } } // what is undefined is left out
    case 'time': return { result: { data: { time: new Date().toISOString() } } }
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
