// How an object follows its log, over a connection that a test plays.
import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { codes, RoostClient } from '../dist/core.js'

/** A subscription without a server. */
class Subscription extends EventEmitter {
  state = 'unsubscribed'
  subscribe () {
    this.state = 'subscribing'
    queueMicrotask(() => this.subscribed({ wasRecovering: true, recovered: true }))
  }

  subscribed (context) {
    this.state = 'subscribed'
    this.emit('subscribed', context)
  }

  lost () {
    this.state = 'subscribing'
    this.emit('subscribing', {})
  }

  unsubscribe () { this.refused(0, 'unsubscribe called') }

  refused (code, reason) {
    if (this.state === 'unsubscribed') return
    this.state = 'unsubscribed'
    this.emit('unsubscribed', { code, reason })
  }

  update (offset) { this.emit('publication', { offset, data: { type: 'updated', data: offset, revision: offset, date: 1 } }) }
}

const MISSED = { wasRecovering: true, recovered: false }
const opened = (event) => ({ object: { id: 'd1', type: 'document', revision: event }, position: { event, epoch: 'e' }, channel: 'sync:d1', data: event })

/** A document at event 5, and what happens to it. calls has what was asked and not answered yet. */
async function start () {
  const calls = []
  const subscriptions = []
  const centrifuge = {
    state: 'connected',
    rpc: (method, params) => new Promise((resolve, reject) => calls.push({ method, params, answer: (data) => resolve({ data }), fail: reject })),
    newSubscription: (channel) => {
      assert(!subscriptions.some((each) => each.registered && each.channel === channel), 'a channel is subscribed to twice')
      subscriptions.push(Object.assign(new Subscription(), { channel, registered: true }))
      return subscriptions.at(-1)
    },
    removeSubscription: (subscription) => { subscription.registered = false }
  }
  const client = new RoostClient(centrifuge)
  const open = async () => {
    const object = client.sync.document('d')
    const call = await next()
    assert.equal(call.method, 'sync.open')
    call.answer(opened(5))
    return object
  }
  const next = async () => {
    for (let tries = 0; tries < 2000 && calls.length === 0; tries++) await new Promise((resolve) => setTimeout(resolve, 1))
    return calls.shift() ?? assert.fail('nothing is asked')
  }
  const document = await open()
  const told = []
  const note = (object, list) => {
    for (const event of ['updated', 'snapshot', 'removed']) object.on(event, (e) => list.push(`${event}@${e.event}`))
    object.on('state', (e) => list.push(e.code ? `${e.state} ${e.code}` : e.state))
  }
  note(document, told)
  const settled = () => new Promise((resolve) => setTimeout(resolve, 5))
  return { client, document, open, next, note, settled, told, subscriptions, subscription: subscriptions[0] }
}

test('what comes while an object is read waits, and is told once', async () => {
  const { document, next, settled, subscription, told } = await start()
  subscription.update(6)
  subscription.lost()
  subscription.subscribed(MISSED)
  const read = await next()
  subscription.update(300)
  subscription.update(301)
  read.answer(opened(300))
  await settled()
  assert.deepEqual(told, ['updated@6', 'offline', 'snapshot@300', 'updated@301', 'synced'])
  assert.equal(document.data, 301)
})

test('events that are missed while an object is read have it read again', async () => {
  const { document, next, settled, subscription, told } = await start()
  subscription.lost()
  subscription.subscribed(MISSED)
  const first = await next()
  subscription.lost()
  subscription.subscribed(MISSED)
  subscription.update(701)
  first.answer(opened(302))
  const second = await next()
  second.answer(opened(700))
  await settled()
  assert.deepEqual(told, ['offline', 'snapshot@700', 'updated@701', 'synced'])
  assert.equal(document.data, 701)
})

test('an object that could not be read before its subscription was lost is read after the next one', async () => {
  const { document, next, settled, subscription, told } = await start()
  subscription.lost()
  subscription.subscribed(MISSED)
  const first = await next()
  subscription.lost()
  first.fail({ code: 100, message: 'internal error' })
  for (let left = 4; left > 0; left--) (await next()).fail({ code: 100, message: 'internal error' })
  await new Promise((resolve) => setTimeout(resolve, 250)) // it gives up
  subscription.subscribed({ wasRecovering: true, recovered: true }) // from where that subscription was
  subscription.update(701)
  const second = await next()
  second.answer(opened(700))
  await settled()
  assert.deepEqual(told, ['offline', 'snapshot@700', 'updated@701', 'synced'])
  assert.equal(document.data, 701)
})

test('who may not read any more is told so, and can open the object again', async () => {
  for (const refuse of [
    async ({ subscription }) => subscription.refused(codes.noPermission, 'no permission'),
    async ({ next, subscription }) => {
      subscription.lost()
      subscription.subscribed(MISSED)
      const read = await next()
      subscription.update(301) // it would be behind a gap
      read.fail({ code: codes.noPermission, message: 'no permission' })
    }
  ]) {
    const rig = await start()
    await refuse(rig)
    await rig.settled()
    assert.equal(rig.told.at(-1), 'refused 1403')
    assert.equal(rig.document.data, 5)
    assert.equal(rig.document.synced, false)
    const again = await rig.open()
    assert.notEqual(again, rig.document)
    const told = []
    rig.note(again, told)
    rig.document.close() // that of before, which ends nothing now
    rig.subscriptions.at(-1).update(6)
    assert.deepEqual(told, ['updated@6'])
  }
})

test('an object that was removed meanwhile is told of once', async () => {
  const { next, settled, subscription, told } = await start()
  subscription.lost()
  subscription.subscribed(MISSED)
  const read = await next()
  read.fail({ code: codes.unknownObject, message: 'there is no document d1' })
  await settled()
  subscription.refused(codes.unknownObject, 'there is no document d1')
  assert.deepEqual(told.filter((each) => each.startsWith('removed')), ['removed@5'])
})

test('open is sent again with its key', async () => {
  const { client, next } = await start()
  const opening = client.sync.document(undefined)
  const first = await next()
  first.fail({ code: 1, message: 'timeout' })
  const second = await next()
  assert.equal(second.params.mode, 'create_new')
  assert.match(second.params.idempotency_key, /^[0-9a-f]{32}$/)
  assert.deepEqual(second.params, first.params)
  second.answer({ ...opened(1), object: { id: 'd2', type: 'document', revision: 1 }, channel: 'sync:d2' })
  assert.equal((await opening).id, 'd2')
})
