// The JavaScript client, on that of Phoenix, against the running example; URL says where it is.
import assert from "node:assert/strict"
import {after, before, test} from "node:test"
import {Socket} from "phoenix"
import WebSocket from "ws"
import {connect} from "../../../../clients/javascript/dist/index.js"

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

const failed = call => call.then(() => assert.fail("did not fail"), error => error)

let channel, api

before(async () => {
  channel = await join("ann", "api:console")
  api = connect({channel, event: "api"})
  // Each service node offers its functions as soon as it is up.
  const deadline = Date.now() + 20_000
  for (;;) {
    const quotes = await Promise.allSettled(Array.from({length: 4}, () => api.shop.quote({item: "tea"})))
    if (new Set(quotes.map(quote => quote.value?.node)).size === 2 && quotes.every(quote => quote.value)) break
    assert.ok(Date.now() < deadline, quotes[0].reason)
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  await api.releases.publish({release: "1"})
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
  const nodes = async call => new Set((await Promise.all(Array.from({length: 6}, call))).map(({node}) => node))
  assert.equal((await nodes(() => api.shop.quote({item: "tea"}))).size, 2)
  assert.equal((await nodes(() => api.shop.stock({item: "tea"}))).size, 1)
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
  assert.ok(await api.shop.stock({item: "tea"}))
  assert.equal((await failed(api.shop.stock({item: "gold"}))).code, "invalid_arguments")
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

test("an async function is awaited like any other", async () => {
  assert.equal((await api.shop.report({year: 2026})).turnover, 1234567)
})

test("leaving the loop of a stream ends it", async () => {
  const items = []
  for await (const item of api.shop.prices({item: "tea"})) if (items.push(item) === 3) break
  assert.equal(items.length, 3)
})

test("a limit is hit, says when it ends, and ends then", async () => {
  const buyer = connect({channel: await join("buyer", "api:console"), event: "api"})
  const buy = () => buyer.shop.buy({item: "tea"})
  for (let i = 0; i < 3; i++) await buy()
  const denied = await failed(buy())
  assert.match(denied.message, /^Rate limit exceeded\. Please retry after \d+ seconds\.$/)
  assert.deepEqual([denied.code, denied.canRetry], ["rate_limited", true])
  const wait = denied.details[0].retry_after_ms
  assert.ok(wait > 0 && wait <= 10_000)
  // Others are not affected.
  await api.shop.buy({item: "tea"})
  await new Promise(resolve => setTimeout(resolve, wait + 20))
  await buy()
})

test("a version that is published while it runs answers at once, and goes again", async () => {
  const changed = new Promise(resolve => channel.on("functions_changed", resolve))
  const quote = async () => (await api.shop.quote({item: "tea", quantity: 10})).total
  assert.equal(await quote(), 50)
  await api.releases.publish({release: "2"})
  await changed
  assert.equal(await quote(), 45)
  assert.equal((await api.shop.v("1.0.0").quote({item: "tea", quantity: 10})).total, 50)
  const [, {functions}] = await reply(channel, "functions", {})
  assert.deepEqual(functions.filter(f => f.request_type === "quote").map(f => f.version), ["1.0.0", "2.0.0"])
  await api.releases.publish({release: "1"})
  assert.equal(await quote(), 50)
})

test("what somebody says reaches everybody in the room once, in order", async () => {
  const [ann, bob] = await Promise.all([join("ann", "chat:lobby"), join("bob", "chat:lobby")])
  const heard = {ann: [], bob: []}
  const [chat, other] = [ann, bob].map(channel => connect({channel, event: "chat", relayEvent: "message"}))
  const all = new Promise(resolve => {
    for (const [user, client] of [["ann", chat], ["bob", other]]) {
      client.relay.on(({from_user_id, message}) => {
        heard[user].push(`${from_user_id}: ${message}`)
        if (heard.ann.length === 5 && heard.bob.length === 5) resolve()
      })
    }
  })
  for (let i = 1; i <= 5; i++) {
    assert.equal((await chat.chat.say({group_id: "lobby", message: `${i}`})).status, "relayed")
  }
  await all
  const expected = [1, 2, 3, 4, 5].map(i => `ann: ${i}`)
  assert.deepEqual(heard, {ann: expected, bob: expected})
})
