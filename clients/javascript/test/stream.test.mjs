import assert from "node:assert/strict"
import {test} from "node:test"
import {deferred, failed, started} from "./support/client.mjs"

const functions = {shop: {ticks: {kind: "stream"}, price: {}}}

/** Numbers without an end, and how many were made. */
function counting() {
  const made = {count: 0, ended: deferred()}
  made.run = async function* (_args, {signal}) {
    signal.addEventListener("abort", made.ended.resolve)
    for (;;) yield ++made.count
  }
  return made
}

const upTo = n => async function* () { for (let i = 1; i <= n; i++) yield i }

for (const [name, options] of [["with", {functions}], ["without", {}]]) {
  test(`a stream is iterated ${name} the constant of the generated file`, async t => {
    const {api} = await started(t, {ticks: {kind: "stream", run: upTo(1000)}}, options)
    const items = []
    for await (const item of api.shop.ticks({})) items.push(item)
    assert.deepEqual(items, Array.from({length: 1000}, (_, n) => n + 1))
  })
}

test("a stream with a last item and no end frame", async t => {
  const {api, gateway} = await started(t, {ticks: {kind: "stream", run: upTo(2)}})
  gateway.deliver = (send, frame) => {
    if (frame[4].result === 2) send([...frame.slice(0, 4), {...frame[4], has_more: false}])
    else if (frame[3] !== "api" || frame[4].result !== null) send(frame)
  }
  const items = []
  for await (const item of api.shop.ticks({})) items.push(item)
  assert.deepEqual(items, [1, 2])
})

test("leaving the loop cancels the stream on the gateway", async t => {
  const made = counting()
  const {api} = await started(t, {ticks: {kind: "stream", run: made.run}})
  for await (const item of api.shop.ticks({})) if (item === 3) break
  await made.ended.promise
})

test("abort ends the loop with an error, and the function", async t => {
  const made = counting()
  const {api} = await started(t, {ticks: {kind: "stream", run: made.run}})
  const abort = new AbortController()
  const error = await failed((async () => {
    for await (const item of api.shop.ticks({}, {signal: abort.signal, credit: 2})) if (item === 3) abort.abort()
  })())
  assert.equal(error.code, "cancelled")
  await made.ended.promise
})

test("the gateway sends no more than the loop has room for", async t => {
  const made = counting()
  const {api} = await started(t, {ticks: {kind: "stream", run: made.run}, price: {run: () => "answered"}}, {functions})
  const stream = api.shop.ticks({}, {credit: 10})
  for (let taken = 1; taken <= 100; taken++) {
    await stream.next()
    if (taken % 25 === 0) {
      // What was granted before is used by now.
      await api.shop.price({})
      assert.ok(made.count <= taken + 10 + 1, `${made.count} made, ${taken} taken`)
    }
  }
  await stream.return()
})

test("items that have arrived are taken before the error", async t => {
  const run = async function* (_args, {fail}) {
    yield* [1, 2]
    throw fail("sold_out")
  }
  const {api} = await started(t, {ticks: {kind: "stream", run}, price: {run: () => null}}, {functions})
  const stream = api.shop.ticks({})
  assert.deepEqual(await stream.next(), {done: false, value: 1})
  await api.shop.price({})
  assert.deepEqual(await stream.next(), {done: false, value: 2})
  assert.equal((await failed(stream.next())).code, "sold_out")
  assert.deepEqual(await stream.next(), {done: true, value: undefined})
})

test("a lost connection ends streams with disconnected, and those that were not sent wait", async t => {
  const made = counting()
  const {api, gateway, channel} = await started(t, {ticks: {kind: "stream", run: made.run}}, {functions})
  const stream = api.shop.ticks({}, {credit: 1})
  assert.deepEqual(await stream.next(), {done: false, value: 1})
  assert.deepEqual(await stream.next(), {done: false, value: 2})
  const lost = new Promise(resolve => channel.onError(resolve))
  await gateway.stop()
  await lost
  const waiting = api.shop.ticks({})
  const first = waiting.next()
  let error
  for (;;) {
    try {
      if ((await stream.next()).done) break
    } catch (failure) {
      error = failure
    }
  }
  assert.equal(error.code, "disconnected")
  await gateway.start()
  assert.equal((await first).done, false)
  await waiting.return()
})

test("a stream that is refused for now is tried again until it begins", async t => {
  let refusals = 2
  const run = (_args, {fail}) => {
    if (refusals-- > 0) throw fail("unavailable", {can_retry: true, details: [{executed: "no"}]})
    return upTo(2)()
  }
  const {api} = await started(t, {ticks: {kind: "stream", run}})
  const items = []
  for await (const item of api.shop.ticks({})) items.push(item)
  assert.deepEqual(items, [1, 2])
})

test("a stream that does not begin in time fails, one that has begun takes its time", async t => {
  const go = deferred()
  const slow = async function* () { yield await go.promise }
  const {api} = await started(t, {ticks: {kind: "stream", run: slow}, never: {kind: "stream", run: () => new Promise(() => {})}})
  assert.equal((await failed(api.shop.never({}, {timeoutMs: 20})[Symbol.asyncIterator]().next())).code, "timeout")
  const stream = api.shop.ticks({}, {timeoutMs: 50})[Symbol.asyncIterator]()
  const next = stream.next()
  // Another call has timed out after it.
  await failed(api.shop.never({}, {timeoutMs: 100})[Symbol.asyncIterator]().next())
  go.resolve("late")
  assert.deepEqual(await next, {done: false, value: "late"})
})

test("awaiting a stream fails and cancels it", async t => {
  const made = counting()
  const {api} = await started(t, {ticks: {kind: "stream", run: made.run}})
  assert.equal((await failed(api.shop.ticks({}))).code, "stream")
  await made.ended.promise
})

test("without the constant, a stream that is not iterated at once says so", async t => {
  const {api} = await started(t, {ticks: {kind: "stream", run: upTo(2)}})
  const ticks = api.shop.ticks({})
  await Promise.resolve()
  await Promise.resolve()
  assert.throws(() => ticks[Symbol.asyncIterator](), TypeError)
  await failed(ticks)
})

test("a function with one answer is a stream of one item", async t => {
  const {api} = await started(t, {price: {run: () => 5}})
  const items = []
  for await (const item of api.shop.price({})) items.push(item)
  assert.deepEqual(items, [5])
})

test("a grant that is refused is made again", async t => {
  const {api, gateway} = await started(t, {ticks: {kind: "stream", run: upTo(20)}})
  let refused = 0
  gateway.deliver = (send, frame) => {
    const {status, response} = frame[4]
    if (status === "ok" && response && Object.keys(response).join() === "request_id" && refused++ < 1)
      send([...frame.slice(0, 4), {status: "error", response: {success: false, code: "unavailable"}}])
    else send(frame)
  }
  const items = []
  for await (const item of api.shop.ticks({}, {credit: 4})) items.push(item)
  assert.equal(items.length, 20)
  assert.ok(refused > 1)
})
