// The admin page. Whatever comes from clients is shown as text, by textContent, and nothing here builds HTML.
const SAMPLES = 301 // one a second: five minutes and where they began
const SHOWN = 200 // rows of a list; more than that nobody reads
const NODES_EVERY = 5 // seconds

const $ = (id) => document.getElementById(id)
let csrf = '' // this session's token, empty while logged out
let samples = []
let tick = 0
let polling = false // one question at a time, however slow the answers

/** Asks the gateway; an error it answers becomes an Error. */
async function ask (path, body) {
  const options = body === undefined
    ? {}
    : { method: 'POST', headers: { 'Content-Type': 'application/json', 'X-CSRF-Token': csrf }, body: JSON.stringify(body) }
  const answer = await fetch(path, options)
  const content = await answer.json().catch(() => ({ error: { message: `the gateway answered ${answer.status}` } }))
  if (answer.status === 401 && path !== 'login') leave('The session has ended, log in again.')
  if (content.error) throw new Error(content.error.message)
  return content
}

const operate = async (name, body) => (await ask(`api/${name}`, body)).result

/** Makes an element with text and children. */
function element (tag, content = [], properties = {}) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...[content].flat())
  return made
}

function note (id, text, bad = false) {
  $(id).textContent = text
  $(id).classList.toggle('bad', bad)
}

/** Runs what a form or button asks for, and says why it failed. */
async function attempt (id, action) {
  try {
    await action()
  } catch (error) {
    note(id, error.message, true)
  }
}

function onSubmit (id, noteID, action) {
  $(id).addEventListener('submit', (event) => {
    event.preventDefault()
    attempt(noteID, action)
  })
}

// Figures

const number = (n) => n >= 100 || Number.isInteger(n) ? Math.round(n).toLocaleString('en') : n.toFixed(1)

function bytes (n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let i = 0
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024
  return `${i > 0 && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[i]}`
}

/** The figure itself, and the rate at which a total grows; null where it is not known. */
const now = (name) => (s) => s[name]
const rate = (name) => (s, before) => before && s.time > before.time ? (s[name] - before[name]) * 1000 / (s.time - before.time) : null

const plots = [
  { id: 'connections-now', label: 'Connections', of: now('connections'), show: number },
  { id: 'clients-now', label: 'Clients', of: now('clients'), show: number },
  { id: 'channels-now', label: 'Channels', of: now('channels'), show: number },
  { id: 'subscriptions-now', label: 'Subscriptions', of: now('subscriptions'), show: number },
  { id: 'messages-in', label: 'Messages in per second', of: rate('messages_in_total'), show: number },
  { id: 'messages-out', label: 'Messages out per second', of: rate('messages_out_total'), show: number },
  { id: 'bytes-in', label: 'Bytes in per second', of: rate('bytes_in_total'), show: bytes },
  { id: 'bytes-out', label: 'Bytes out per second', of: rate('bytes_out_total'), show: bytes },
  { id: 'queue', label: 'Waiting for clients to read', of: now('queue_bytes'), show: bytes },
  { id: 'memory', label: 'Process memory per connection', of: (s) => s.memory && s.connections ? s.memory / s.connections : null, show: bytes }
]

const SVG = 'http://www.w3.org/2000/svg'

for (const plot of plots) {
  const svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('viewBox', `0 0 ${SAMPLES - 1} 100`)
  svg.setAttribute('preserveAspectRatio', 'none')
  svg.setAttribute('aria-hidden', 'true')
  plot.value = element('output', '–', { id: plot.id })
  plot.value.setAttribute('aria-live', 'off')
  plot.value.setAttribute('aria-label', plot.label)
  plot.most = element('small')
  plot.svg = svg
  $('plots').append(element('figure', [element('figcaption', plot.label), plot.value, svg, plot.most], { className: 'plot' }))
}

function draw (plot) {
  const values = samples.map((s, i) => plot.of(s, samples[i - 1]))
  const last = values.at(-1)
  const most = Math.max(0, ...values)
  plot.value.textContent = last === null ? '–' : plot.show(last)
  plot.most.textContent = `at most ${plot.show(most)}`
  const lines = [] // one for each stretch without a hole
  let line
  values.forEach((v, i) => {
    if (v === null) {
      line = undefined
      return
    }
    if (!line) lines.push(line = [])
    line.push(`${SAMPLES - values.length + i},${97 - 94 * v / (most || 1)}`)
  })
  plot.svg.replaceChildren(...lines.map((points) => {
    const polyline = document.createElementNS(SVG, 'polyline')
    polyline.setAttribute('points', points.join(' '))
    return polyline
  }))
}

function row (...cells) {
  return element('tr', cells.map((text) => element('td', text)))
}

function drawClosed () {
  const last = samples.at(-1).closed_total
  const first = samples[0].closed_total
  const rows = Object.entries(last).filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a)
    .map(([reason, n]) => row(reason, number(n - (first[reason] ?? 0)), number(n)))
  $('closed').tBodies[0].replaceChildren(...rows.length ? rows : [row('none', '0', '0')])
}

async function drawNodes () {
  const { nodes } = await operate('info', {})
  $('nodes').tBodies[0].replaceChildren(...nodes.sort((a, b) => a.name < b.name ? -1 : 1)
    .map((n) => row(n.name, n.version, ...[n.num_clients, n.num_users, n.num_subs, n.num_channels].map(number), age(n.uptime))))
}

function age (seconds) {
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60]
  return days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${seconds} s`
}

async function poll () {
  if (!csrf || polling) return
  polling = true
  try {
    const sample = await ask('figures')
    if (samples.length && sample.messages_in_total < samples.at(-1).messages_in_total) samples = [] // the gateway started anew
    samples = [...samples, sample].slice(-SAMPLES)
    plots.forEach(draw)
    drawClosed()
    if (tick++ % NODES_EVERY === 0) await drawNodes()
    if (csrf) say('open', 'Live')
  } catch (error) {
    if (csrf) say('lost', `No figures: ${error.message}`)
  }
  polling = false
}

function say (state, text) {
  document.body.dataset.state = state
  if ($('status').textContent !== text) $('status').textContent = text // which screen readers then read out
}

// Channels, clients and users

function shownOf (entries, note) {
  return entries.length > SHOWN ? `${number(entries.length)}${note}, the first ${SHOWN} shown` : `${number(entries.length)}${note}`
}

async function listChannels () {
  const { channels } = await operate('channels', { pattern: $('pattern').value })
  const found = Object.entries(channels).sort(([a], [b]) => a < b ? -1 : 1)
  note('channels-note', shownOf(found, ' with subscribers'))
  $('channels').replaceChildren(...found.slice(0, SHOWN).map(([name, { num_clients: n }]) => {
    const open = element('button', name, { type: 'button', className: 'name', onclick: () => openChannel(name) })
    return element('li', [open, element('small', `${number(n)} following`)])
  }))
}

async function openChannel (name) {
  $('channel').hidden = false
  $('channel-name').textContent = name
  $('publish-channel').value = name
  $('presence').replaceChildren()
  $('history').replaceChildren()
  $('channel-name').focus()
  const still = () => $('channel-name').textContent === name // another may have been opened meanwhile
  await attempt('presence-note', async () => {
    const { presence } = await operate('presence', { channel: name })
    if (!still()) return
    const clients = Object.values(presence)
    note('presence-note', shownOf(clients, ' here'))
    $('presence').replaceChildren(...clients.slice(0, SHOWN).map((c) => clientRow(c.client, c.user, '', 'presence-note')))
  })
  await attempt('history-note', async () => {
    const { publications = [], offset } = await operate('history', { channel: name, limit: 50, reverse: true })
    if (!still()) return
    note('history-note', `Offset ${offset}, ${publications.length ? `the last ${publications.length}` : 'nothing kept'}`)
    $('history').replaceChildren(...publications.map((p) => element('li', [
      element('small', `${p.offset ?? ''} ${p.time ? new Date(p.time).toLocaleTimeString() : ''}`),
      element('code', (p.data === undefined ? `base64: ${p.b64data}` : JSON.stringify(p.data)).slice(0, 2000))
    ])))
  })
}

function clientRow (client, user, more, noteID) {
  const gone = element('button', 'Disconnect', { type: 'button' })
  gone.setAttribute('aria-label', `Disconnect client ${client}`)
  gone.onclick = () => attempt(noteID, async () => {
    gone.disabled = true
    await operate('disconnect', { user, client })
    gone.closest('li').remove()
    note(noteID, `Disconnected ${client}`)
  })
  return element('li', [element('span', [user || 'anonymous', ' ', element('small', `${client} ${more}`)]), gone])
}

async function listConnections () {
  const { connections } = await operate('connections', { user: $('user').value })
  const found = Object.entries(connections)
  note('users-note', shownOf(found, found.length === 1 ? ' connection' : ' connections'))
  $('connections').replaceChildren(...found.slice(0, SHOWN).map(([client, c]) => clientRow(client, c.user,
    `${c.transport} ${c.protocol}, node ${c.node}, since ${new Date(c.connected_at * 1000).toLocaleString()}: ${(c.channels ?? []).join(', ') || 'no channels'}`, 'users-note')))
}

onSubmit('filter', 'channels-note', listChannels)
onSubmit('users', 'users-note', listConnections)
onSubmit('publish', 'publish-note', async () => {
  let data
  try {
    data = JSON.parse($('publish-data').value)
  } catch (error) {
    throw new Error(`The data is not JSON: ${error.message}`)
  }
  const { offset } = await operate('publish', { channel: $('publish-channel').value, data })
  note('publish-note', offset ? `Published, offset ${offset}` : 'Published')
})
$('disconnect-user').onclick = () => attempt('users-note', async () => {
  if (!$('user').reportValidity()) return
  await operate('disconnect', { user: $('user').value })
  $('connections').replaceChildren()
  note('users-note', `Disconnected ${$('user').value}`)
})

// Session

function enter (token) {
  csrf = token
  samples = []
  tick = 0
  $('password').value = ''
  $('refused').textContent = ''
  $('login').hidden = true
  $('inside').hidden = $('logout').hidden = false
  poll()
}

function leave (why) {
  csrf = ''
  $('login').hidden = false
  $('inside').hidden = $('logout').hidden = true
  for (const id of ['channels', 'presence', 'history', 'connections']) $(id).replaceChildren()
  say('out', why)
  $('password').focus()
}

onSubmit('login', 'refused', async () => enter((await ask('login', { password: $('password').value })).csrf))
$('logout').onclick = () => attempt('status', async () => {
  await ask('logout', {})
  leave('Logged out.')
})

setInterval(poll, 1000)
attempt('status', async () => {
  const { csrf: token } = await ask('session')
  if (token) enter(token)
  else leave('')
})
