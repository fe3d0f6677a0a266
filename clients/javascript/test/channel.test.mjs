import assert from "node:assert/strict"
import {test} from "node:test"
import {connect, GenApiError} from "../dist/index.js"
import {deferred, failed, started} from "./support/client.mjs"

const functions = {shop: {
  price: {},
  save: {timeoutMs: 1000},
  find: {idempotent: true, timeoutMs: 20_000},
  log: {kind: "none"},
  ticks: {kind: "stream"},
  report: {}
}}

const echo = {run: args => args}

test("a call has the result of its function", async t => {
  const {api, gateway} = await started(t, {price: {run: ({item}) => ({item, total: 12})}})
  const request = gateway.seen("request")
  assert.deepEqual(await api.shop.price({item: "tea"}), {item: "tea", total: 12})
  const {request_id, ...sent} = await request
  assert.match(request_id, /^[0-9a-f]{32}$/)
  assert.deepEqual(sent, {service: "shop", request_type: "price", args: {item: "tea"}})
})

test("a call without arguments sends an empty object, one of a version names it", async t => {
  const {api, gateway} = await started(t, {price: {run: (args, {request}) => request.version ?? null}})
  const request = gateway.seen("request")
  assert.equal(await api.shop.price(), null)
  assert.deepEqual((await request).args, {})
  assert.equal(await api.shop.v("2.0.0").price({}), "2.0.0")
})

test("calls made before the join go out with it, in order", async t => {
  const order = []
  const {api} = await started(t, {price: {run: ({n}) => order.push(n) && n}})
  const results = await Promise.all([1, 2, 3].map(n => api.shop.price({n})))
  assert.deepEqual(results, [1, 2, 3])
  assert.deepEqual(order, [1, 2, 3])
})

test("a failure is a GenApiError with what the gateway says", async t => {
  const details = [{path: "item", rule: "required"}]
  const {api} = await started(t, {
    price: {run: (_args, {fail}) => { throw fail("invalid_arguments", {error: "argument validation failed", details}) }}
  })
  const error = await failed(api.shop.price({}))
  assert.ok(error instanceof GenApiError && error instanceof Error)
  assert.deepEqual(
    [error.code, error.message, error.details, error.canRetry],
    ["invalid_arguments", "argument validation failed", details, false]
  )
  assert.match(error.requestId, /^[0-9a-f]{32}$/)
  assert.equal((await failed(api.shop.nothing())).code, "unknown_function")
})

test("a function that answers later answers", async t => {
  const answer = deferred()
  const {api, gateway} = await started(t, {report: {kind: "async", run: () => () => answer.promise}}, {functions})
  const request = gateway.seen("request")
  const report = api.shop.report({})
  await request
  answer.resolve("done")
  assert.equal(await report, "done")
})

test("a function without an answer resolves when the gateway has taken it", async t => {
  const seen = []
  for (const options of [{}, {functions}]) {
    const {api} = await started(t, {log: {kind: "none", run: ({line}) => seen.push(line)}}, options)
    assert.equal(await api.shop.log({line: "x"}), undefined)
  }
  assert.deepEqual(seen, ["x", "x"])
})

test("a promise that nobody awaits is sent all the same", async t => {
  const {api, gateway} = await started(t, {price: echo})
  const request = gateway.seen("request")
  const call = api.shop.price({n: 1})
  assert.deepEqual((await request).args, {n: 1})
  await call
})

test("what was not executed and can be retried is repeated twice, with a new id", async t => {
  const ids = []
  let failures = 2
  const run = (args, {id, fail}) => {
    ids.push(id)
    if (failures-- > 0) throw fail("unavailable", {can_retry: true, details: [{executed: "no"}]})
    return "done"
  }
  const {api} = await started(t, {price: {run}})
  assert.equal(await api.shop.price({}), "done")
  assert.equal(new Set(ids).size, 3)

  failures = 3
  assert.equal((await failed(api.shop.price({}))).code, "unavailable")
  failures = 1
  assert.equal((await failed(api.shop.price({}, {retry: 0}))).code, "unavailable")
})

test("what may have been executed, or cannot be retried, is not repeated", async t => {
  let runs = 0
  const answers = [
    {can_retry: true, details: [{executed: "unknown"}]},
    {can_retry: true, details: [{retry_after_ms: 5}]},
    {can_retry: true},
    {can_retry: false, details: [{executed: "no"}]}
  ]
  const {api} = await started(t, {price: {run: (_args, {fail}) => { throw fail("some", answers[runs++]) }}})
  for (const _answer of answers) assert.equal((await failed(api.shop.price({}))).code, "some")
  assert.equal(runs, answers.length)
})

test("abort ends the call, also on the gateway", async t => {
  const running = deferred()
  const freed = deferred()
  const run = (_args, {signal}) => {
    signal.addEventListener("abort", freed.resolve)
    running.resolve()
    return new Promise(() => {})
  }
  const {api} = await started(t, {price: {run}})
  const abort = new AbortController()
  const call = api.shop.price({}, {signal: abort.signal})
  await running.promise
  abort.abort("no longer needed")
  const error = await failed(call)
  assert.deepEqual([error.code, error.cause], ["cancelled", "no longer needed"])
  await freed.promise
})

test("a call that is aborted before it is sent never is", async t => {
  const {api, gateway, channel} = await started(t, {price: echo, find: echo})
  await api.shop.find({})
  gateway.refuseJoins = true
  gateway.disconnect()
  await new Promise(resolve => channel.onError(resolve))
  const abort = new AbortController()
  const call = api.shop.price({}, {signal: abort.signal})
  const requests = []
  gateway.on("request", request => requests.push(request.request_type))
  await Promise.resolve()
  abort.abort()
  const error = await failed(call)
  assert.deepEqual([error.code, error.details], ["cancelled", [{executed: "no"}]])
  assert.equal((await failed(api.shop.price({}, {signal: AbortSignal.abort()}))).code, "cancelled")
  gateway.refuseJoins = false
  await api.shop.find({})
  assert.deepEqual(requests, ["find"])
})

test("a call that takes too long fails, and is cancelled on the gateway", async t => {
  const {api, gateway} = await started(t, {price: {run: () => new Promise(() => {})}})
  const cancelled = gateway.seen("cancel")
  const error = await failed(api.shop.price({}, {timeoutMs: 20}))
  assert.deepEqual([error.code, error.details], ["timeout", [{executed: "unknown"}]])
  assert.equal(await cancelled, error.requestId)
})

test("a call that was never sent times out as well", async t => {
  const {api, gateway} = await started(t, {price: echo})
  gateway.refuseJoins = true
  const error = await failed(api.shop.price({}, {timeoutMs: 20}))
  assert.deepEqual([error.code, error.details, error.canRetry], ["timeout", [{executed: "no"}], true])
})

test("a deadline is sent only if it is given, and less of it with every attempt", async t => {
  const deadlines = []
  let failures = 1
  const run = (_args, {request, fail}) => {
    deadlines.push(request.deadline_ms)
    if (failures-- > 0) throw fail("unavailable", {can_retry: true, details: [{executed: "no"}]})
    return "done"
  }
  const {api} = await started(t, {price: {run}})
  await api.shop.price({}, {deadlineMs: 5000})
  await api.shop.price({})
  assert.ok(deadlines[0] <= 5000 && deadlines[1] < deadlines[0] && deadlines[1] > 0, `${deadlines}`)
  assert.equal(deadlines[2], undefined)
})

test("the answer of a lost call is unknown; what is idempotent is sent again after the rejoin", async t => {
  const runs = {save: 0, find: 0}
  const bothRun = deferred()
  const run = name => (_args, {signal}) => {
    runs[name]++
    if (runs.save && runs.find) bothRun.resolve()
    if (name === "find" && runs.find > 1) return "found"
    return new Promise((_resolve, reject) => signal.addEventListener("abort", reject))
  }
  const {api, gateway} = await started(t, {save: {run: run("save")}, find: {run: run("find")}}, {functions})
  const save = failed(api.shop.save({}))
  const find = api.shop.find({})
  await bothRun.promise
  gateway.disconnect()
  const error = await save
  assert.deepEqual([error.code, error.details], ["unknown", [{executed: "unknown"}]])
  assert.equal(await find, "found")
  assert.deepEqual(runs, {save: 1, find: 2})
})

test("without the constant of the generated file, and with retry: 0, nothing lost is repeated", async t => {
  let runs = 0
  const running = []
  const run = () => { runs++; running.shift().resolve(); return new Promise(() => {}) }
  for (const options of [{}, {functions}]) {
    running.push(deferred())
    const ran = running[0].promise
    const {api, gateway} = await started(t, {find: {run}}, options)
    const call = failed(api.shop.find({}, {retry: 0}))
    await ran
    gateway.disconnect()
    assert.equal((await call).code, "unknown")
  }
  assert.equal(runs, 2)
})

test("calls made while disconnected wait for the rejoin", async t => {
  const {api, gateway, channel} = await started(t, {price: echo})
  await api.shop.price({})
  const disconnected = new Promise(resolve => channel.onError(resolve))
  await gateway.stop()
  await disconnected
  const call = api.shop.price({n: 1})
  await gateway.start()
  assert.deepEqual(await call, {n: 1})
})

test("a crash of the channel on the gateway is a disconnect", async t => {
  const running = deferred()
  const {api, gateway} = await started(t, {price: echo, save: {run: () => { running.resolve(); return new Promise(() => {}) }}})
  const call = failed(api.shop.save({}))
  await running.promise
  gateway.endChannels("phx_error")
  assert.equal((await call).code, "unknown")
  assert.deepEqual(await api.shop.price({n: 2}), {n: 2})
})

for (const [name, end] of [
  ["leave()", ({channel}) => channel.leave()],
  ["the end of the channel on the gateway", ({gateway}) => gateway.endChannels("phx_close")]
]) {
  test(`everything settles after ${name}`, async t => {
    const running = []
    const run = () => { running.shift().resolve(); return new Promise(() => {}) }
    const ticks = async function* () { yield 1; await new Promise(() => {}) }
    const client = await started(t, {save: {run}, find: {run}, ticks: {kind: "stream", run: ticks}}, {functions})
    const {api} = client
    running.push(deferred(), deferred())
    const both = running.map(({promise}) => promise)
    const calls = [failed(api.shop.save({})), failed(api.shop.find({}))]
    const stream = api.shop.ticks({})
    assert.deepEqual(await stream.next(), {done: false, value: 1})
    const next = failed(stream.next())
    await Promise.all(both)
    end(client)
    const errors = await Promise.all([...calls, next])
    assert.deepEqual(errors.map(({code}) => code), ["unknown", "unknown", "disconnected"])
    assert.deepEqual(await stream.next(), {done: true, value: undefined})
    const later = await failed(api.shop.save({}))
    assert.deepEqual([later.code, later.canRetry], ["disconnected", true])
    assert.equal((await failed(api.shop.ticks({}).next())).code, "disconnected")
  })
}

test("close() leaves the channel", async t => {
  const {close} = await import("../dist/index.js")
  const {api, channel} = await started(t, {price: echo})
  await api.shop.price({})
  close(api)
  assert.equal((await failed(api.shop.price({}))).code, "disconnected")
  assert.equal(channel.state, "closed")
})

test("answers are matched by their id, in whatever order they come", async t => {
  const {api, gateway} = await started(t, {price: echo})
  await api.shop.price({})
  const held = []
  gateway.deliver = (send, frame) => {
    held.push(() => send(frame))
    if (held.length === 50) for (const deliver of held.reverse()) deliver()
  }
  const calls = Array.from({length: 50}, (_, n) => api.shop.price({n}))
  assert.deepEqual((await Promise.all(calls)).map(({n}) => n), [...Array(50).keys()])
})

test("frames and results that overtake their acknowledgement are not lost", async t => {
  const ticks = async function* () { yield* [1, 2, 3] }
  const {api, gateway} = await started(
    t,
    {ticks: {kind: "stream", run: ticks}, report: {kind: "async", run: () => async () => "done"}},
    {functions}
  )
  await failed(api.shop.nothing())
  const held = []
  gateway.deliver = (send, frame) => {
    if (frame[3] === "phx_reply") held.push(() => send(frame))
    else {
      send(frame)
      if (!frame[4].has_more) for (const deliver of held.splice(0)) deliver()
    }
  }
  assert.equal(await api.shop.report({}), "done")
  const items = []
  for await (const item of api.shop.ticks({})) items.push(item)
  assert.deepEqual(items, [1, 2, 3])
})

test("relay messages reach the listeners, the sender's own as well", async t => {
  const message = {group_id: "g", from_user_id: "ann", message: {text: "hi"}, timestamp: "2026-01-01T00:00:00Z"}
  const send = (_args, {id}) => { gateway.relay({...message, from_user_id: "me"}, id); return {status: "relayed"} }
  const {api, gateway} = await started(t, {send: {run: send}, price: echo})
  const heard = []
  const stop = api.relay.on(message => heard.push(message))
  assert.deepEqual(await api.relay.send({group_id: "g"}), {status: "relayed"})
  gateway.relay(message)
  await api.shop.price({})
  stop()
  gateway.relay(message)
  await api.shop.price({})
  assert.deepEqual(heard, [{...message, from_user_id: "me"}, message])
})

test("a socket and a topic do as well as a channel", async t => {
  const {socket} = await started(t, {price: echo})
  const api = connect({socket, topic: "api:other", event: "api"})
  assert.deepEqual(await api.shop.price({n: 1}), {n: 1})
})

test("a channel that has joined already is used as it is", async t => {
  const {gateway, socket} = await started(t, {price: echo})
  const channel = socket.channel("api:other")
  await new Promise(resolve => channel.join().receive("ok", resolve))
  const api = connect({channel, event: "api"})
  assert.deepEqual(await api.shop.price({n: 1}), {n: 1})
  gateway.disconnect()
  assert.deepEqual(await api.shop.price({n: 2}, {timeoutMs: 5000}).catch(({code}) => code === "unknown" && {n: 2}), {n: 2})
})

test("an object of services is no promise", async t => {
  const {api} = await started(t, {price: echo})
  assert.equal(await api, api)
  assert.equal(await api.shop, api.shop)
  assert.equal(api.shop.price, api.shop.price)
})
