// EventSource for Node, as far as the SDK uses it; it does not connect again by itself.
export class EventSource {
  #controller = new AbortController()

  constructor (url) {
    this.#read(url).catch((error) => this.#controller.signal.aborted || this.onerror(error))
  }

  async #read (url) {
    const response = await fetch(url, { signal: this.#controller.signal, headers: { Accept: 'text/event-stream' } })
    if (!response.ok || response.headers.get('content-type') !== 'text/event-stream') throw new Error(`${response.status} ${await response.text()}`)
    this.onopen()
    let rest = ''
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      const events = (rest + text).split('\n\n')
      rest = events.pop()
      for (const event of events) {
        const data = event.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.replace(/^data: ?/, ''))
        if (data.length > 0) this.onmessage({ data: data.join('\n') })
      }
    }
    throw new Error('the stream ended')
  }

  close () { this.#controller.abort() }
}
