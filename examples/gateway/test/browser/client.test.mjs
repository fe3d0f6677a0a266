// The official JavaScript client of Phoenix against the running example; URL says where it is.
import assert from "node:assert/strict"
import {after, before, test} from "node:test"
import {Socket} from "phoenix"
import WebSocket from "ws"
import {genApi} from "../../priv/static/gen_api.js"

const endpoint = process.env.URL.replace("http", "ws") + "/socket"
const sockets = []

async function join(user, topic) {
  const socket = new Socket(endpoint, {transport: WebSocket, params: {user}})
  sockets.push(socket)
  socket.connect()
  const channel = socket.channel(topic)
  await new Promise((resolve, reject) =>
    channel.join().receive("ok", resolve).receive("error", reply => reject(new Error(JSON.stringify(reply)))))
  return channel
}

const reply = (channel, event, payload) => new Promise((resolve, reject) =>
  channel.push(event, payload)
    .receive("ok", response => resolve(["ok", response]))
    .receive("error", response => resolve(["error", response]))
    .receive("timeout", () => reject(new Error("timeout"))))

const shop = (request_type, args) => ({service: "shop", request_type, args})

async function published(api, release) {
  const response = await api.call(shop("publish", {release}))
  assert.equal(response.success, true, response.error)
}

let channel, api

before(async () => {
  channel = await join("ann", "api:console")
  api = genApi(channel, "api")
  // One service node offers the functions of both as soon as it is up itself.
  const deadline = Date.now() + 20_000
  for (;;) {
    const quotes = await Promise.all(Array.from({length: 4}, () => api.call(shop("quote", {item: "tea"}))))
    if (new Set(quotes.map(quote => quote.result?.node)).size === 2 && quotes.every(quote => quote.success)) break
    assert.ok(Date.now() < deadline, quotes[0].error)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  await published(api, "1")
})

after(() => sockets.forEach(socket => socket.disconnect()))

test("a request is answered with the seven keys of a response", async () => {
  const [status, response] = await reply(channel, "api",
    {...shop("quote", {item: "tea", quantity: 2}), request_id: "r1", version: "1.0.0"})
  assert.equal(status, "ok")
  const {node, ...result} = response.result
  assert.match(node, /^shop_[ab]/)
  assert.deepEqual({...response, result}, {
    request_id: "r1", success: true, error: null, async: false, has_more: false, can_retry: false,
    result: {item: "tea", quantity: 2, total: 10}
  })
})

test("round robin asks both nodes, a hash always the same one", async () => {
  const nodes = async request => {
    const responses = await Promise.all(Array.from({length: 6}, () => api.call(request)))
    return new Set(responses.map(response => response.result.node))
  }
  assert.equal((await nodes(shop("quote", {item: "tea"}))).size, 2)
  assert.equal((await nodes(shop("stock", {item: "tea"}))).size, 1)
})

test("what is wrong with a request is its error, and the channel lives", async () => {
  const cases = [
    [[1, 2], /^Invalid request: /],
    [{}, /^Invalid request: /],
    ["text", /^Invalid request: /],
    [{...shop("nothing"), request_id: "r"}, /^unsupported function: nothing version latest$/],
    [{...shop("stock", {item: "gold"}), request_id: "r"}, /^argument validation failed$/],
    [{...shop("buy", {item: "cocoa"}), request_id: "r"}, /^Out of stock$/]
  ]
  for (const [payload, error] of cases) {
    const [status, response] = await reply(channel, "api", payload)
    assert.equal(status, "error")
    assert.match(response.error, error)
  }
  assert.equal((await api.call(shop("stock", {item: "tea"}))).success, true)
})

test("an async request is acknowledged, and its result is pushed", async () => {
  const pushed = new Promise(resolve => {
    const ref = channel.on("api", response => {
      if (response.request_id !== "later") return
      channel.off("api", ref)
      resolve(response)
    })
  })
  const [, ack] = await reply(channel, "api", {...shop("report", {year: 2026}), request_id: "later"})
  assert.deepEqual([ack.async, ack.result], [true, null])
  const response = await pushed
  assert.deepEqual([response.async, response.result.turnover], [false, 1234567])
})

test("a stream is cancelled: no item comes after its end frame", async () => {
  const items = []
  const stream = api.stream(shop("prices", {item: "tea"}), item => {
    items.push(item)
    if (items.length === 3) stream.cancel()
  })
  const end = await stream.done
  assert.deepEqual([end.success, end.has_more, end.result], [true, false, null])
  const count = items.length
  assert.ok(count >= 3)
  await new Promise(resolve => setTimeout(resolve, 600))
  assert.equal(items.length, count)
})

test("a limit is hit, says when it ends, and ends then", async () => {
  const buyer = genApi(await join("buyer", "api:console"), "api")
  const buy = () => buyer.call(shop("buy", {item: "tea"}))
  for (let i = 0; i < 3; i++) assert.equal((await buy()).success, true)
  const denied = await buy()
  assert.match(denied.error, /^Rate limit exceeded\. Please retry after \d+ seconds\.$/)
  assert.equal(denied.can_retry, true)
  const wait = denied.result.retry_after_ms
  assert.ok(wait > 0 && wait <= 10_000)
  // Others are not affected.
  assert.equal((await api.call(shop("buy", {item: "tea"}))).success, true)
  await new Promise(resolve => setTimeout(resolve, wait + 20))
  assert.equal((await buy()).success, true)
})

test("a version that is pushed while it runs answers at once, and goes again", async () => {
  const changed = new Promise(resolve => channel.on("functions_changed", resolve))
  const quote = async () => (await api.call(shop("quote", {item: "tea", quantity: 10}))).result.total
  assert.equal(await quote(), 50)
  await published(api, "2")
  await changed
  assert.equal(await quote(), 45)
  const [, {functions}] = await reply(channel, "functions", {})
  assert.deepEqual(functions.filter(f => f.request_type === "quote").map(f => f.version), ["1.0.0", "2.0.0"])
  await published(api, "1")
  assert.equal(await quote(), 50)
})

test("what somebody says reaches everybody in the room once, in order", async () => {
  const [ann, bob] = await Promise.all([join("ann", "chat:lobby"), join("bob", "chat:lobby")])
  const heard = {ann: [], bob: []}
  const all = new Promise(resolve => {
    for (const [user, room] of [["ann", ann], ["bob", bob]]) {
      room.on("message", ({result}) => {
        heard[user].push(`${result.from_user_id}: ${result.message}`)
        if (heard.ann.length === 5 && heard.bob.length === 5) resolve()
      })
    }
  })
  const chat = genApi(ann, "chat")
  for (let i = 1; i <= 5; i++) {
    const response = await chat.call({service: "chat", request_type: "say", args: {group_id: "lobby", message: `${i}`}})
    assert.equal(response.result.status, "relayed")
  }
  await all
  const expected = [1, 2, 3, 4, 5].map(i => `ann: ${i}`)
  assert.deepEqual(heard, {ann: expected, bob: expected})
})
