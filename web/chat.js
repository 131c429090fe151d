'use strict'

const ROOM = 'room'
const NAMES_CHANNEL = 'room-names' // where windows say how they are called; the gateway vouches for the client's id
const NAME_EVERY = 240_000 // milliseconds; the history of names holds 300 s
const HISTORY = 50 // messages shown on load
const LINES = 300 // in the log; older ones are dropped
const TRIPS = 20 // deliveries of the median
const BIRD_PITCH = 40 // pixels of wire per bird
const NAMES = ['wren', 'swift', 'heron', 'finch', 'robin', 'plover', 'martin', 'dunlin', 'siskin', 'avocet', 'linnet', 'curlew']

const at = (id) => document.getElementById(id)
const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/connection/websocket`

const centrifuge = new Centrifuge(url, { maxReconnectDelay: 5000 })
const room = centrifuge.newSubscription(ROOM, { joinLeave: true })
const roster = centrifuge.newSubscription(NAMES_CHANNEL)

let self = '' // this window's client id; a new one with each connection
let own = sessionStorage.getItem('name') ?? `${NAMES[Math.floor(Math.random() * NAMES.length)]} ${Math.floor(Math.random() * 900 + 100)}`
const owned = new Set() // all client ids this window has had
const names = new Map() // by client id
const here = new Map() // elements of those present, by client id
const pending = new Map() // when own messages were sent, by their id, until they arrive
const trips = []
let epoch // of the messages shown
let cut = false // by the button
let recovered = 0

// Names.

const called = (client) => names.get(client) ?? (client ? `guest ${client.slice(0, 4)}` : 'the server')

function learn (client, name) {
  if (typeof name !== 'string' || !client || names.get(client) === name.slice(0, 40)) return
  names.set(client, name.slice(0, 40))
  for (const element of document.querySelectorAll('[data-client]')) if (element.dataset.client === client) showName(element)
}

function showName (element) {
  const { client } = element.dataset
  element.textContent = called(client) + (element.dataset.you && owned.has(client) ? ' (you)' : '')
}

/** An element with the name of a client, which changes with it. */
function nameOf (client, you) {
  const element = document.createElement('b')
  element.dataset.client = client
  if (you) element.dataset.you = 'yes'
  element.classList.toggle('guest', !owned.has(client))
  showName(element)
  return element
}

function sayName () {
  learn(self, own)
  if (roster.state === 'subscribed') roster.publish({ name: own }).catch(report)
}

roster.on('publication', ({ info, data }) => info && learn(info.client, data?.name))
roster.on('subscribed', async () => {
  sayName()
  const { publications } = await roster.history({ limit: 100 }).catch(nothing)
  for (const { info, data } of publications) if (info && !owned.has(info.client)) learn(info.client, data?.name)
})
setInterval(sayName, NAME_EVERY)

const nothing = (error) => {
  report(error)
  return { publications: [], clients: {} }
}

// The log.

/** Adds a line; messages stand in the order of their offsets, whenever they come. */
function add (line, offset) {
  const talk = at('talk')
  const follow = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 40
  let before = null
  if (offset) {
    line.dataset.offset = offset
    for (let last = talk.lastElementChild; last; last = last.previousElementSibling) {
      if (Number(last.dataset.offset) === offset) return false // seen
      if (Number(last.dataset.offset) > offset) before = last
      else if (last.dataset.offset) break
    }
  }
  talk.insertBefore(line, before)
  while (talk.children.length > LINES) talk.firstChild.remove()
  if (follow) talk.scrollTop = talk.scrollHeight
  return true
}

function note (kind, ...parts) {
  const line = document.createElement('li')
  line.className = `note ${kind}`
  line.append(...parts)
  add(line)
}

/** Shows a message; nothing about it can be trusted but who sent it. */
function show ({ offset, data, info }) {
  const line = document.createElement('li')
  const text = document.createElement('span')
  const message = typeof data === 'object' && data !== null ? data : { text: data }
  text.className = 'text'
  text.textContent = typeof message.text === 'string' ? message.text : JSON.stringify(data)
  if (info && typeof message.from === 'string' && !names.has(info.client)) learn(info.client, message.from)
  line.append(nameOf(info?.client ?? ''), text)
  const sent = Number.isFinite(message.at) ? new Date(message.at) : null
  if (sent && !Number.isNaN(sent.getTime())) {
    const time = document.createElement('time')
    time.textContent = sent.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
    line.append(time)
  }
  if (add(line, offset) && owned.has(info?.client)) arrived(message.id)
}

/** Measures how long an own message took from here through the gateway and back. */
function arrived (id) {
  if (!pending.has(id)) return
  trips.push(performance.now() - pending.get(id))
  pending.delete(id)
  if (trips.length > TRIPS) trips.shift()
  const sorted = [...trips].sort((a, b) => a - b)
  at('delivery').textContent = `${trips.at(-1).toFixed(1)} ms, median ${sorted[sorted.length >> 1].toFixed(1)} ms`
}

function report (error) {
  note('bad', `Error ${error.code ?? ''}: ${error.message ?? error}`)
}

// Who is here: the list, and a bird each on the wire.

function enter (client) {
  if (here.has(client)) return
  const item = document.createElement('li')
  item.append(nameOf(client, true))
  here.set(client, item)
  at('here').append(item)
  const bird = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use')
  use.setAttribute('href', '#bird')
  bird.append(use)
  // The id decides how a bird looks, so that it looks the same in all windows.
  bird.setAttribute('class', `bird${owned.has(client) ? '' : ' guest'}${client.charCodeAt(0) % 2 ? ' flip' : ''}`)
  item.bird = bird
  at('line').append(bird)
  perch()
}

function leave (client) {
  const item = here.get(client)
  if (!item) return
  here.delete(client)
  item.remove()
  item.bird.classList.add('leaving')
  setTimeout(() => item.bird.remove(), 500)
  perch()
}

/** Sets the birds side by side, as many as the wire holds. */
function perch () {
  const perches = Math.max(1, Math.floor(at('line').clientWidth / BIRD_PITCH))
  let place = 0
  for (const { bird } of here.values()) {
    bird.style.left = `${place * BIRD_PITCH}px`
    bird.toggleAttribute('hidden', place++ >= perches)
  }
  at('count').textContent = here.size || ''
}

async function readPresence () {
  const { clients } = await room.presence().catch(nothing)
  for (const client of here.keys()) if (!clients[client]) leave(client)
  for (const client of Object.keys(clients)) enter(client)
}

room.on('join', ({ info }) => {
  if (!owned.has(info.client)) note('join', nameOf(info.client), ' joined')
  enter(info.client)
})
room.on('leave', ({ info }) => {
  if (!owned.has(info.client)) note('leave', nameOf(info.client), ' left')
  leave(info.client)
})
room.on('publication', (publication) => {
  if (counting) count++
  show(publication)
})

// Recovery.

let counting = false
let count = 0

room.on('subscribed', async ({ wasRecovering, recovered: complete, streamPosition }) => {
  if (wasRecovering && complete) {
    // What was missed is delivered right after this event, before anything else.
    counting = true
    count = 0
    setTimeout(() => {
      counting = false
      recovered += count
      at('recovered').textContent = recovered.toLocaleString()
      note('back', count === 0 ? 'Back again, nothing was missed' : `Back again, ${count} missed ${count === 1 ? 'message' : 'messages'} recovered`)
    })
  } else if (wasRecovering) {
    note('bad', 'Back again, but some messages could not be recovered')
  }
  if (epoch !== undefined && streamPosition?.epoch !== epoch) {
    // A new history, whose offsets begin again.
    for (const line of at('talk').querySelectorAll('[data-offset]')) delete line.dataset.offset
  }
  epoch = streamPosition?.epoch
  readPresence()
  if (wasRecovering && complete) return
  const { publications } = await room.history({ limit: HISTORY, reverse: true }).catch(nothing)
  publications.reverse().forEach(show)
})
room.on('error', ({ error }) => report(error))
room.on('unsubscribed', ({ code, reason }) => note('bad', `The gateway ended the subscription (${code}: ${reason})`))

// The connection.

function showState (state, text) {
  document.body.dataset.state = state
  at('state').textContent = text
  at('cut').textContent = centrifuge.state === 'disconnected' ? 'Connect again' : 'Cut the connection'
  document.querySelector('#say button').disabled = state !== 'open'
}

centrifuge.on('connected', ({ client }) => {
  self = client
  owned.add(client)
  learn(client, own)
  showState('open', 'Connected')
})
centrifuge.on('connecting', ({ code, reason }) => {
  showState('connecting', code === 0 ? 'Connecting' : `Connection lost, trying again (${reason})`)
})
centrifuge.on('disconnected', ({ code, reason }) => {
  showState('waiting', cut ? 'Cut: what others say meanwhile comes later' : `Disconnected (${code}: ${reason})`)
})
centrifuge.on('error', () => {}) // each state says what it needs to

at('cut').addEventListener('click', () => {
  cut = centrifuge.state !== 'disconnected'
  if (cut) centrifuge.disconnect()
  else centrifuge.connect()
})

at('say').addEventListener('submit', (event) => {
  event.preventDefault()
  const id = crypto.getRandomValues(new Uint32Array(2)).join('-')
  pending.set(id, performance.now())
  room.publish({ id, from: own, text: at('text').value, at: Date.now() }).catch((error) => {
    pending.delete(id)
    report(error)
  })
  at('text').value = ''
  at('text').focus()
})

at('rename').addEventListener('submit', (event) => {
  event.preventDefault()
  own = at('name').value.trim() || own
  sessionStorage.setItem('name', own)
  sayName()
})

addEventListener('resize', perch)
at('name').value = own
at('address').textContent = url
room.subscribe()
roster.subscribe()
centrifuge.connect()
