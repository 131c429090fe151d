// What a scenario works with. It runs in Node and in a browser, so it imports nothing.

const NOWHERE = 'http://127.0.0.1:1' // nothing listens, and browsers do not even try
const EMULATION = '/emulation'
const PATIENCE = 20_000 // milliseconds that anything awaited may take

export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))
export const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index)
export const seconds = () => Math.floor(Date.now() / 1000)

/** Waits for an event that satisfies matches and returns its context. */
export function once (emitter, event, matches = () => true) {
  return new Promise((resolve, reject) => {
    const seen = []
    const timer = setTimeout(() => {
      emitter.off(event, listen)
      reject(new Error(`no '${event}' as awaited within ${PATIENCE} ms, but ${JSON.stringify(seen)}`))
    }, PATIENCE)
    const listen = (context) => {
      if (!matches(context)) {
        seen.push(context)
        return
      }
      clearTimeout(timer)
      emitter.off(event, listen)
      resolve(context)
    }
    emitter.on(event, listen)
  })
}

export async function until (what, condition) {
  const end = Date.now() + PATIENCE
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${PATIENCE} ms: ${typeof what === 'function' ? what() : what}`)
    await sleep(5)
  }
}

const sorted = (_, value) => value && typeof value === 'object' && !Array.isArray(value)
  ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1))
  : value

export function equal (actual, expected, what) {
  const [a, e] = [actual, expected].map((value) => JSON.stringify(value, sorted))
  if (a !== e) throw new Error(`${what}: expected ${e}, got ${a}`)
}

/** The error that a promise is rejected with. */
export async function refusal (promise, what) {
  try {
    await promise
  } catch (error) {
    return error
  }
  throw new Error(`${what} was not refused`)
}

export class Harness {
  /**
   * Centrifuge, WebSocket and EventSource are the classes to use, api(method, body) calls the server's HTTP API and returns its answer,
   * sign(claims) makes a token, and prefix keeps channels and users of one scenario apart from all others. With a transport, http_stream or
   * sse, url is not that of WebSockets but of the gateway or, as browsers open but six connections to a host, one for each client.
   */
  constructor ({ Centrifuge, WebSocket, EventSource, protobuf, url, transport, api, sign, prefix }) {
    Object.assign(this, { Centrifuge, WebSocket, EventSource, protobuf, url, transport, api, sign, prefix, clients: [] })
  }

  channel (name, namespace) {
    return `${namespace ? `${namespace}:` : ''}${this.prefix}-${name}`
  }

  user (name) {
    return `${this.prefix}-${name}`
  }

  /** A token of a user that lives for an hour, or with other claims. */
  token (name, claims = {}) {
    return this.sign({ sub: this.user(name), exp: seconds() + 3600, ...claims })
  }

  /** Calls the API and returns the result, which must not be an error. */
  async call (method, body) {
    const answer = await this.api(method, body)
    if (answer.error || !answer.result) throw new Error(`${method} ${JSON.stringify(body)}: ${JSON.stringify(answer)}`)
    return answer.result
  }

  publish (channel, data, more = {}) {
    return this.call('publish', { channel, data, ...more })
  }

  /** What the SDK wants as data: bytes with Protobuf, any value with JSON. */
  encode (value) {
    return this.protobuf ? new TextEncoder().encode(JSON.stringify(value)) : value
  }

  decode (data) {
    if (!this.protobuf) return data
    return data?.length ? JSON.parse(new TextDecoder().decode(data)) : undefined
  }

  /** Where a client connects, and where it posts to. */
  endpoint (query) {
    if (!this.transport) return { endpoint: this.url + query }
    const base = Array.isArray(this.url) ? this.url[this.clients.length % this.url.length] : this.url
    return { endpoint: [{ transport: this.transport, endpoint: `${base}/connection/${this.transport}${query}` }], emulationEndpoint: base + EMULATION }
  }

  /**
   * A client that is not yet connected. snap() cuts its connection; offline() too, and keeps it cut until online(). hold() keeps it
   * from connecting again once it is cut by something else.
   */
  client (options = {}, query = '') {
    const network = new EventTarget()
    let held = false
    let socket
    const WebSocket = class extends this.WebSocket {
      constructor (url, ...protocols) {
        super(held ? 'ws://127.0.0.1:1' : url, ...protocols) // port 1: nothing listens, and browsers do not even try
        socket = this
      }
    }
    const EventSource = this.EventSource && class extends this.EventSource {
      constructor (url) {
        super(held ? NOWHERE : url)
        socket = { close: () => { this.close(); this.onerror({}) } }
      }
    }
    const fetch = (url, options) => {
      const cut = new AbortController()
      if (!url.endsWith(EMULATION)) socket = { close: () => cut.abort() }
      return globalThis.fetch(held ? NOWHERE : url, { ...options, signal: AbortSignal.any([options.signal, cut.signal]) })
    }
    const { endpoint, ...paths } = this.endpoint(query)
    const client = new this.Centrifuge(endpoint, {
      websocket: WebSocket, eventsource: EventSource, fetch, networkEventTarget: network, minReconnectDelay: 20, maxReconnectDelay: 200, timeout: 8000, ...paths, ...options
    })
    client.snap = () => socket.terminate ? socket.terminate() : socket.close()
    client.hold = () => { held = true }
    client.offline = () => {
      client.hold()
      client.snap()
      network.dispatchEvent(new Event('offline'))
    }
    client.online = () => {
      held = false
      network.dispatchEvent(new Event('online'))
    }
    client.events = [] // its own states and their codes
    for (const event of ['connecting', 'connected', 'disconnected']) client.on(event, ({ code }) => client.events.push([event, code]))
    client.on('error', () => {}) // without a listener the emitter throws
    this.clients.push(client)
    return client
  }

  /** A connected client of a user. */
  async connect (name = 'someone', options = {}, query = '') {
    const client = this.client({ token: await this.token(name), ...options }, query)
    const connected = once(client, 'connected')
    client.connect()
    client.id = (await connected).client
    return client
  }

  /** A subscription with what came over it in got; it is subscribed when this returns. */
  async subscribe (client, channel, options) {
    const subscription = this.subscription(client, channel, options)
    const subscribed = once(subscription, 'subscribed')
    subscription.subscribe()
    subscription.first = await subscribed
    return subscription
  }

  subscription (client, channel, options) {
    const subscription = client.newSubscription(channel, options)
    subscription.got = []
    subscription.on('publication', ({ data }) => subscription.got.push(this.decode(data)))
    subscription.on('error', () => {})
    return subscription
  }

  /** Waits until a subscription got so many publications and checks that they are these. */
  async got (subscription, expected, what = 'publications') {
    await until(() => `${expected.length} ${what}, got ${JSON.stringify(subscription.got)}`, () => subscription.got.length >= expected.length)
    equal(subscription.got, expected, what)
  }

  end () {
    for (const client of this.clients) client.disconnect()
  }
}
