import assert from "node:assert/strict"
import {once} from "node:events"
import {createServer} from "node:http"
import {test} from "node:test"
import {close, connect} from "../dist/index.js"
import {deferred, failed} from "./support/client.mjs"

const functions = {shop: {price: {}, find: {idempotent: true}, ticks: {kind: "stream"}}}

/** A server that answers as `answer(request, response, body)` does. */
async function serving(t, answer, options = {}) {
  const requests = []
  const server = createServer(async (request, response) => {
    let body = ""
    for await (const part of request) body += part
    requests.push({method: request.method, url: request.url, headers: request.headers, body})
    await answer(request, response, body && JSON.parse(body))
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  const api = connect({url: `http://127.0.0.1:${server.address().port}/gen_api/`, ...options})
  return {api, requests, server}
}

const body = (id, fields) => JSON.stringify({
  request_id: id, success: true, result: null, error: null, async: false, has_more: false, can_retry: false, ...fields
})

function json(request, response, fields, status = 200) {
  response.writeHead(status, {"content-type": "application/json; charset=utf-8"})
  response.end(body(request.headers["x-request-id"], fields))
}

test("a call is a POST", async t => {
  const {api, requests} = await serving(t, (request, response, args) => json(request, response, {result: args.n + 1}))
  assert.equal(await api.shop.price({n: 1}), 2)
  await api.shop.v("2.0.0")["a/b"]({n: 1}, {deadlineMs: 500})
  const [first, second] = requests
  assert.deepEqual([first.method, first.url, first.body], ["POST", "/gen_api/shop/price", '{"n":1}'])
  assert.match(first.headers["x-request-id"], /^[0-9a-f]{32}$/)
  assert.equal(first.headers["content-type"], "application/json")
  assert.equal(first.headers["accept-version"], undefined)
  assert.equal(second.url, "/gen_api/shop/a%2Fb")
  assert.equal(second.headers["accept-version"], "2.0.0")
  assert.ok(second.headers["x-deadline-ms"] <= 500)
})

test("headers of one's own, and those of a moment", async t => {
  let token = 0
  const {api, requests} = await serving(
    t,
    (request, response) => json(request, response, {}),
    {headers: () => ({authorization: `Bearer ${++token}`})}
  )
  await api.shop.price({})
  await api.shop.price({})
  assert.deepEqual(requests.map(({headers}) => headers.authorization), ["Bearer 1", "Bearer 2"])
})

test("errors, and functions without an answer", async t => {
  const {api} = await serving(t, (request, response) => {
    if (request.url.endsWith("log")) return response.writeHead(202).end()
    return json(request, response, {success: false, code: "sold_out", error: "Sold out", details: [{left: 0}]}, 409)
  })
  const error = await failed(api.shop.price({}))
  assert.deepEqual([error.code, error.message, error.details], ["sold_out", "Sold out", [{left: 0}]])
  assert.equal(await api.shop.log({}), undefined)
})

test("what is no answer of the gateway is unknown, and repeated if that is safe", async t => {
  let failures = 3
  const {api, requests} = await serving(t, (request, response) => {
    const failure = failures--
    if (failure === 3 || failure === 2) return response.writeHead(502, {"content-type": "text/html"}).end("<p>Bad gateway")
    if (failure === 1) return request.socket.destroy()
    return json(request, response, {result: "found"})
  }, {functions})
  assert.equal((await failed(api.shop.price({}))).code, "unknown")
  assert.equal(await api.shop.find({}), "found")
  failures = 3
  assert.equal((await failed(api.shop.find({}))).code, "unknown")
  assert.equal(requests.length, 1 + 3 + 3)
})

test("what was not executed is repeated", async t => {
  let failures = 1
  const {api} = await serving(t, (request, response) => {
    if (failures-- > 0)
      return json(request, response, {success: false, code: "unavailable", can_retry: true, details: [{executed: "no"}]}, 503)
    return json(request, response, {result: "done"})
  })
  assert.equal(await api.shop.price({}), "done")
})

test("abort and timeouts end the request", async t => {
  const arrived = []
  const {api} = await serving(t, (_request, response) => {
    const {seen, closed} = arrived.shift()
    response.on("close", closed.resolve)
    seen.resolve()
  })
  const abort = new AbortController()
  for (const [options, code] of [[{signal: abort.signal}, "cancelled"], [{timeoutMs: 1_000}, "timeout"]]) {
    const [seen, closed] = [deferred(), deferred()]
    arrived.push({seen, closed})
    const call = failed(api.shop.price({}, options))
    await seen.promise
    abort.abort()
    assert.equal((await call).code, code)
    await closed.promise
  }
})

function sse(response) {
  response.writeHead(200, {"content-type": "text/event-stream"})
  let n = 0
  return fields => response.write(
    `${fields.success === false ? "event: error\n" : ""}id: ${n++}\ndata: ${body("r", {async: true, ...fields})}\n\n`
  )
}

for (const [name, options] of [["with", {functions}], ["without", {}]]) {
  test(`a stream is server-sent events, ${name} the constant of the generated file`, async t => {
    const {api, requests} = await serving(t, (_request, response) => {
      const frame = sse(response)
      for (let n = 1; n <= 500; n++) {
        frame({has_more: true, result: `é${n}`})
        if (n % 100 === 0) response.write(": heartbeat\n\n")
      }
      frame({})
      response.end()
    }, options)
    const items = []
    for await (const item of api.shop.ticks({}, {credit: 7})) items.push(item)
    assert.deepEqual(items, Array.from({length: 500}, (_, n) => `é${n + 1}`))
    assert.match(requests[0].headers.accept, /^text\/event-stream/)
  })
}

test("a stream that fails before it begins, on the way, and without an end", async t => {
  const failure = {success: false, code: "sold_out", error: "Sold out"}
  const {api} = await serving(t, (request, response, {how}) => {
    if (how === "before") return json(request, response, failure, 409)
    const frame = sse(response)
    frame({has_more: true, result: 1})
    if (how === "error") frame(failure)
    if (how === "cut") return setTimeout(() => response.destroy(), 20)
    return response.end()
  }, {functions})
  for (const [how, code, items] of [["before", "sold_out", []], ["error", "sold_out", [1]], ["end", "disconnected", [1]], ["cut", "disconnected", [1]]]) {
    const got = []
    const error = await failed((async () => { for await (const item of api.shop.ticks({how})) got.push(item) })())
    assert.deepEqual([how, error.code, got], [how, code, items])
  }
})

test("leaving the loop ends the request", async t => {
  const closed = deferred()
  const {api} = await serving(t, (_request, response) => {
    const frame = sse(response)
    response.on("close", closed.resolve)
    frame({has_more: true, result: 1})
  })
  for await (const _item of api.shop.ticks({})) break
  await closed.promise
})

test("a consumer that waits holds the server", async t => {
  const big = "x".repeat(100_000)
  let written = 0
  const {api} = await serving(t, async (_request, response) => {
    const frame = sse(response)
    let goOn = () => {}
    response.on("error", () => {}).on("close", () => goOn())
    while (written < 2_000 && !response.destroyed) {
      written++
      if (!frame({has_more: true, result: big}))
        await new Promise(resolve => {
          goOn = resolve
          response.once("drain", resolve)
        })
    }
  }, {functions})
  const stream = api.shop.ticks({}, {credit: 2})
  await stream.next()
  // The buffers between the two fill up.
  for (let before = -1; written !== before; ) {
    before = written
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  assert.ok(written < 2_000, `${written} written`)
  await stream.return()
})

test("awaiting a stream that comes as lines fails", async t => {
  const {api} = await serving(t, (_request, response) => {
    response.writeHead(200, {"content-type": "application/x-ndjson"})
    response.write(`${body("r", {has_more: true, result: 1})}\n`)
  })
  assert.equal((await failed(api.shop.ticks({}))).code, "stream")
})

test("close() ends what is unfinished", async t => {
  const arrived = deferred()
  const {api} = await serving(t, () => arrived.resolve(), {functions})
  const call = failed(api.shop.find({}))
  await arrived.promise
  close(api)
  assert.equal((await call).code, "unknown")
})

test("group messages need a channel", async () => {
  assert.throws(() => connect({url: "/gen_api"}).relay.on(() => {}), TypeError)
})
