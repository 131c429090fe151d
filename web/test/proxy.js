// A proxy that breaks WebSockets, as some do: it passes on requests, but no Upgrade.
import { once } from 'node:events'
import { Agent, createServer, request } from 'node:http'

/** Starts a proxy to the page of a gateway at each address, and returns their URLs, all with the same end(). */
export async function startProxies (page, addresses) {
  const target = new URL(page)
  const agent = new Agent({ keepAlive: true })
  const pass = (incoming, answer) => {
    const { upgrade, connection, ...headers } = incoming.headers
    const outgoing = request({ agent, host: target.hostname, port: target.port, method: incoming.method, path: incoming.url, headers }, (response) => {
      answer.writeHead(response.statusCode, response.headers)
      response.pipe(answer)
    })
    outgoing.on('error', () => answer.destroy())
    answer.on('close', () => outgoing.destroy())
    incoming.pipe(outgoing)
  }
  const servers = addresses.map((address) => createServer(pass).listen(0, address))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const end = () => {
    for (const server of servers) {
      server.close()
      server.closeAllConnections()
    }
    agent.destroy()
  }
  return { urls: servers.map((server) => `http://${server.address().address}:${server.address().port}`), end }
}
