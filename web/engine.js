'use strict'

const LOG_LINES = 100 // per panel; older ones are dropped
const TRIPS = 40 // round trips kept for the median and the plot
const BIRD_PITCH = 40 // pixels of wire per bird
const LANDING_PAUSE = 40 // milliseconds between two birds; messages that come faster get none
const RETRY_MIN = 500 // milliseconds, doubled per failed attempt up to RETRY_MAX
const RETRY_MAX = 8000
const NAMES = ['wren', 'swift', 'heron', 'finch', 'robin', 'plover', 'martin', 'dunlin', 'siskin', 'avocet', 'linnet', 'curlew']

const at = (id) => document.getElementById(id)
const base = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}`
const name = `${NAMES[Math.floor(Math.random() * NAMES.length)]} ${Math.floor(Math.random() * 900 + 100)}`

/** A WebSocket to one route that comes back by itself, later after each failure. */
class Link {
  constructor (path, onMessage) {
    this.url = base + path
    this.onMessage = onMessage
    this.failures = 0 // attempts since it was last open
    this.why = '' // it is not open
    this.connect()
  }

  connect () {
    clearTimeout(this.timer)
    this.state = 'connecting'
    this.sentAt = [] // of messages whose echo is still out
    this.socket = new WebSocket(this.url)
    this.socket.onopen = () => {
      this.state = 'open'
      this.failures = 0
      this.why = ''
      showState()
    }
    this.socket.onmessage = (event) => {
      count('received')
      this.onMessage(event.data, this)
    }
    this.socket.onclose = (event) => {
      // What ended an open connection says more than the failed attempts that follow.
      this.why ||= explain(event)
      this.state = 'waiting'
      const pause = Math.min(RETRY_MIN * 2 ** this.failures++, RETRY_MAX) * (0.75 + Math.random() / 2)
      this.due = performance.now() + pause
      this.timer = setTimeout(() => this.retry(), pause)
      showState()
    }
  }

  retry () {
    this.connect()
    showState()
  }

  send (text) {
    if (this.state !== 'open') return false
    this.socket.send(text)
    count('sent')
    return true
  }
}

function explain ({ code, reason }) {
  if (code === 1001) return 'The gateway went away (close code 1001)'
  if (code === 1006) return 'No connection to the gateway'
  return `Closed with code ${code}${reason ? `: ${reason}` : ''}`
}

const counts = { sent: 0, received: 0 }

function count (what) {
  counts[what]++
  soon(showCounts)
}

// Messages may come faster than the screen can show them, so the page is drawn at most once per frame.
const waiting = new Set()
function soon (draw) {
  if (waiting.size === 0) {
    // A hidden window gets no frames, but its counts shall be right when someone looks.
    (document.hidden ? setTimeout : requestAnimationFrame)(() => {
      const draws = [...waiting]
      waiting.clear()
      draws.forEach((draw) => draw())
    })
  }
  waiting.add(draw)
}

function showCounts () {
  for (const what in counts) at(what).textContent = counts[what].toLocaleString()
}

function showState () {
  const states = links.map((link) => link.state)
  const state = ['waiting', 'connecting', 'open'].find((state) => states.includes(state))
  const last = document.body.dataset.state
  document.body.dataset.state = state
  const why = links.map((link) => link.why).find(Boolean)
  // While attempts follow one another the reason stays, or the line would flicker.
  const text = state === 'open' ? 'Connected' : why || 'Connecting'
  if (at('state').textContent !== text) at('state').textContent = text
  at('compression').textContent = (state === 'open' && links[0].socket.extensions.split(';')[0]) || 'none'
  for (const button of document.querySelectorAll('form button')) button.disabled = state !== 'open'
  at('again').hidden = at('retry').hidden = state !== 'waiting'
  if (state === 'waiting') showRetry()
  if (state !== 'open' && last === 'open') {
    birds.forEach(leave)
  }
}

function showRetry () {
  const dues = links.filter((link) => link.state === 'waiting').map((link) => link.due)
  if (dues.length === 0) return
  const seconds = Math.max(0, Math.min(...dues) - performance.now()) / 1000
  at('retry').textContent = `Next attempt in ${Math.ceil(seconds)} s.`
}

/** Puts a line on top of a panel's log. */
function log (list, ...cells) {
  const line = document.createElement('li')
  for (const [kind, text] of cells) {
    const cell = document.createElement('span')
    cell.className = kind
    cell.textContent = text
    line.append(cell)
  }
  list.prepend(line)
  while (list.children.length > LOG_LINES) list.lastChild.remove()
}

const birds = [] // by perch; the one there may have left
let nextPerch = 0
let lastLanding = 0

/** Sets a bird on the wire, in place of the oldest one when the wire is full. */
function perch (guest) {
  if (performance.now() - lastLanding < LANDING_PAUSE) return
  lastLanding = performance.now()
  const perches = Math.max(1, Math.floor(at('line').clientWidth / BIRD_PITCH))
  const place = nextPerch++ % perches
  if (birds[place]) leave(birds[place])
  const bird = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use')
  use.setAttribute('href', '#bird')
  bird.append(use)
  bird.setAttribute('class', `bird${guest ? ' guest' : ''}${Math.random() < 0.4 ? ' flip' : ''}`)
  bird.style.left = `${place * BIRD_PITCH + Math.random() * 8}px`
  birds[place] = bird
  at('line').append(bird)
}

function leave (bird) {
  if (bird.classList.contains('leaving')) return
  bird.classList.add('leaving')
  setTimeout(() => bird.remove(), 500)
}

const trips = []

function onEcho (text, link) {
  const took = performance.now() - link.sentAt.shift() // echoes come back in order
  trips.push(took)
  if (trips.length > TRIPS) trips.shift()
  soon(showTrips)
  log(at('echo-log'), ['text', text], ['note', `${took.toFixed(1)} ms`])
  perch(false)
}

function showTrips () {
  const sorted = [...trips].sort((a, b) => a - b)
  const highest = sorted.at(-1)
  document.querySelector('.trip').hidden = false
  at('trip').textContent = trips.at(-1).toFixed(1)
  at('median').textContent = `Median of the last ${trips.length}: ${sorted[sorted.length >> 1].toFixed(1)} ms, highest ${highest.toFixed(1)} ms`
  at('trips').replaceChildren(...trips.map((took, index) => {
    const bar = document.createElementNS('http://www.w3.org/2000/svg', 'rect')
    const height = Math.max(1, took / highest * 36)
    for (const [key, value] of Object.entries({ x: index * 4, y: 36 - height, width: 3, height })) bar.setAttribute(key, value)
    return bar
  }))
}

function onBroadcast (data) {
  let from = 'someone'
  let text = typeof data === 'string' ? data : `${data.size} bytes`
  try { // windows of this page say who they are; any other client may send what it likes
    const message = JSON.parse(text)
    if (typeof message.from === 'string' && typeof message.text === 'string') ({ from, text } = message)
  } catch {}
  const guest = from !== name
  log(at('broadcast-log'), [guest ? 'from guest' : 'from', guest ? from : 'you'], ['text', text])
  perch(guest)
}

const links = []
const echo = new Link('/echo', onEcho)
const broadcast = new Link('/broadcast', onBroadcast)
links.push(echo, broadcast)

document.querySelector('#echo form').addEventListener('submit', (event) => {
  event.preventDefault()
  const now = performance.now()
  if (echo.send(at('echo-text').value)) echo.sentAt.push(now)
  at('echo-text').select()
})

document.querySelector('#broadcast form').addEventListener('submit', (event) => {
  event.preventDefault()
  if (broadcast.send(JSON.stringify({ from: name, text: at('broadcast-text').value }))) at('broadcast-text').value = ''
  at('broadcast-text').focus()
})

at('again').addEventListener('click', () => links.filter((link) => link.state === 'waiting').forEach((link) => link.retry()))
setInterval(showRetry, 500)

at('name').textContent = name
at('address').textContent = location.host
at('example').textContent = `${base}/echo`
