// A board that all windows edit at once: cards are items of a map, their order is a list, pointers are messages of a stream.
import { RoostClient } from '/vendor/roost/core.js'

const STEP = 33 // milliseconds between two positions of what moves
const TRIPS = 20 // of the median
const AWAY = 4000 // milliseconds after which a pointer that rests fades
const COLOURS = 4
const [WIDTH, HEIGHT] = [780, 420] // that a card may be moved by, in pixels

const at = (id) => document.getElementById(id)
const own = crypto.getRandomValues(new Uint32Array(2)).join('-') // this window
const link = new globalThis.Centrifuge(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/connection/websocket`, { maxReconnectDelay: 2000 })
const { sync } = new RoostClient(link)
link.on('error', () => {}) // it tries again by itself
link.connect()

const [cards, order, pointers, here] = await Promise.all([
  sync.map('board cards'), sync.list('board order'), sync.stream('board pointers'), sync.map('board windows')
])

// What is on the board.

const shown = new Map() // by card: its element, what the service has of it, and what of this window is on its way and next
const places = new Map() // indexes in the list of the order, by card
const trips = []

function element (id) {
  const card = document.createElement('article')
  card.className = 'card'
  card.dataset.card = id
  card.innerHTML = '<div class="grip"><button type="button" class="colour" aria-label="Next colour">◐</button><button type="button" class="remove" aria-label="Remove">×</button></div><textarea maxlength="500" aria-label="Text"></textarea>'
  at('board').append(card)
  const state = { card, text: card.querySelector('textarea'), data: {}, stored: false, sent: 0, away: undefined, next: undefined, busy: false }
  state.text.addEventListener('input', () => write(id, { text: state.text.value }))
  card.querySelector('.colour').addEventListener('click', () => write(id, { colour: ((view(state).colour ?? 0) + 1) % COLOURS }))
  card.querySelector('.remove').addEventListener('click', () => remove(id))
  card.querySelector('.grip').addEventListener('pointerdown', (event) => event.target.tagName !== 'BUTTON' && hold(id, event))
  shown.set(id, state)
  stack(id)
  return state
}

/** What is shown of a card: what this window is about to write holds before what others wrote. */
const view = ({ data, away, next }) => ({ ...data, ...away, ...next })

function draw (state) {
  const { x = 0, y = 0, text = '', colour = 0 } = view(state)
  state.card.style.transform = `translate(${x}px, ${y}px)`
  state.card.dataset.colour = colour
  if (state.text.value !== text) state.text.value = text
}

/** Shows a card as the service has it. */
function show (id, data) {
  const state = shown.get(id) ?? element(id)
  Object.assign(state, { data, stored: true })
  draw(state)
}

function hide (id) {
  shown.get(id)?.card.remove()
  shown.delete(id)
}

const stack = (id) => { const state = shown.get(id); if (state) state.card.style.zIndex = 1 + (places.get(id) ?? 0) }

// What this window writes: only the members that it changes. While one write to a card is under way the next ones become one.

async function write (id, change) {
  const state = shown.get(id)
  state.next = { ...state.next, ...change }
  draw(state)
  if (state.busy) return
  for (state.busy = true; state.next && shown.has(id);) {
    await Promise.all([send(id, state), new Promise((resolve) => setTimeout(resolve, STEP))])
    waits()
  }
  state.busy = false
}

async function send (id, state) {
  const sent = state.away = { ...state.next, by: own, n: ++state.sent }
  state.next = undefined
  state.since = performance.now()
  const done = state.stored ? cards.merge(id, sent) : cards.set(id, sent)
  waits()
  const { data } = await done.catch(() => ({ data: state.data })) // the object says so itself if it is over
  if (state.away !== sent) return // its event was there before
  state.away = undefined
  if (shown.has(id)) show(id, data ?? { ...state.data, ...sent })
}

async function remove (id) {
  const index = places.get(id)
  await Promise.all([cards.delete(id).catch(() => {}), index === undefined ? undefined : order.delete(index).catch(() => {})])
}

/** Puts a card before all others. */
function raise (id) {
  const index = places.get(id)
  const push = { op: 'list.push', data: id }
  order.batch(index === undefined ? [push] : [{ op: 'list.delete', index }, push]).catch(() => {}) // somebody else did
}

function hold (id, { clientX, clientY, pointerId, currentTarget }) {
  const state = shown.get(id)
  const { x = 0, y = 0 } = view(state)
  const within = (value, most) => Math.round(Math.max(0, Math.min(most, value)))
  const move = (event) => write(id, { x: within(x + event.clientX - clientX, WIDTH), y: within(y + event.clientY - clientY, HEIGHT) })
  const drop = () => {
    state.card.classList.remove('held')
    currentTarget.removeEventListener('pointermove', move)
  }
  state.card.classList.add('held')
  currentTarget.setPointerCapture(pointerId)
  currentTarget.addEventListener('pointermove', move)
  for (const end of ['pointerup', 'pointercancel']) currentTarget.addEventListener(end, drop, { once: true })
  raise(id)
}

at('add').addEventListener('click', () => {
  const id = `${own}-${Date.now()}`
  element(id)
  write(id, { x: 40 + Math.round(Math.random() * 500), y: 20 + Math.round(Math.random() * 250), colour: Math.floor(Math.random() * COLOURS), text: '' })
  raise(id)
})

// What comes from all windows, this one included.

function arrived ({ key, data }) {
  const state = shown.get(key)
  if (data.by === own && state?.sent === data.n && state.since) {
    trips.push(performance.now() - state.since)
    state.since = state.away = undefined
    if (trips.length > TRIPS) trips.shift()
    at('latency').textContent = `${trips.at(-1).toFixed(1)} ms, median ${[...trips].sort((a, b) => a - b)[trips.length >> 1].toFixed(1)} ms`
  }
  show(key, data)
}

cards.on('itemAdded', arrived)
cards.on('itemUpdated', arrived)
cards.on('itemRemoved', ({ key }) => hide(key))
const place = ({ key, data }) => { places.set(data, key); stack(data) }
order.on('itemAdded', place)
order.on('itemRemoved', ({ key, previous }) => { if (places.get(previous) === key) places.delete(previous) })

async function readAll () {
  for (const id of [...shown.keys()]) if (!shown.get(id).busy) hide(id)
  for await (const item of order) place(item)
  for await (const { key, data } of cards) show(key, data)
}
cards.on('snapshot', readAll)
order.on('snapshot', readAll)

// Pointers of the other windows.

const others = new Map()
pointers.on('message', ({ data: { by, x, y } }) => {
  if (by === own) return
  let other = others.get(by)
  if (!other) {
    const pointer = document.createElement('div')
    pointer.className = 'pointer'
    pointer.innerHTML = '<svg viewBox="0 0 22 22" aria-hidden="true"><path d="M2 1l17 9-8 2-4 8z"/></svg>'
    at('board').append(pointer)
    others.set(by, other = { pointer })
  }
  other.pointer.style.transform = `translate(${x}px, ${y}px)`
  other.pointer.classList.remove('away')
  clearTimeout(other.timer)
  other.timer = setTimeout(() => other.pointer.classList.add('away'), AWAY)
})

let told = 0
at('board').addEventListener('pointermove', ({ clientX, clientY }) => {
  if (link.state !== 'connected' || performance.now() - told < STEP) return
  told = performance.now()
  const { left, top } = at('board').getBoundingClientRect()
  pointers.publish({ by: own, x: Math.round(clientX - left), y: Math.round(clientY - top) }).catch(() => {}) // the next one will do
})

// Windows: each says that it is there, and has that taken back when it goes.

async function enter () {
  await here.onDisconnect([{ op: 'map.delete', key: own }])
  await here.set(own, true)
}

async function count () { at('windows').textContent = Math.max(1, await here.count()) }
for (const event of ['itemAdded', 'itemRemoved', 'snapshot']) here.on(event, () => count().catch(() => {}))
here.on('itemRemoved', ({ key }) => { others.get(key)?.pointer.remove(); others.delete(key) })

// The connection.

function waits () { at('waiting').textContent = cards.pending + order.pending }

function state () {
  const open = cards.synced
  document.body.dataset.state = open ? 'open' : 'connecting'
  at('state').textContent = open ? 'Connected' : 'Connecting'
  at('add').disabled = false
}
cards.on('state', state)
link.on('connected', () => enter().catch(() => {}))
at('cut').addEventListener('click', () => {
  const cut = link.state !== 'disconnected'
  if (cut) link.disconnect()
  else link.connect()
  at('cut').textContent = cut ? 'Connect again' : 'Cut the connection'
})

await readAll()
await enter()
await count()
state()
