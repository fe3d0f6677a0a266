// The exchanges of clients/vectors, which the gateway passes as well: here a server plays its part.
import assert from "node:assert/strict"
import {once} from "node:events"
import {readFileSync} from "node:fs"
import {test} from "node:test"
import {Socket} from "phoenix"
import WebSocket, {WebSocketServer} from "ws"
import {connect} from "../dist/index.js"
import {failed} from "./support/client.mjs"

const {exchanges} = JSON.parse(readFileSync("../vectors/exchanges.json", "utf8"))

/** Answers the frames of a client as an exchange says, whatever its refs and ids are. */
async function playing(t, name) {
  const {steps} = exchanges.find(exchange => exchange.name === name)
  const server = new WebSocketServer({port: 0, host: "127.0.0.1"})
  await once(server, "listening")
  const rest = [...steps]
  let begin, done
  const begun = new Promise(resolve => (begin = resolve))
  const over = new Promise(resolve => (done = resolve))
  server.on("connection", connection => connection.on("message", text => {
    const [joinRef, ref, topic, event, payload] = JSON.parse(text)
    const send = frame => connection.send(JSON.stringify(frame))
    if (event !== "api") return send([joinRef, ref, topic, "phx_reply", {status: "ok", response: {}}])
    const [, vectorRef, , , expected] = rest.shift().client
    const {request_id: vectorId, ...fields} = expected
    const {request_id: id, ...sent} = payload
    begin()
    refs.set(vectorRef, ref)
    ids.set(vectorId, id)
    assert.deepEqual({...sent, deadline_ms: undefined}, {...fields, deadline_ms: undefined})
    while (rest[0]?.gateway) {
      const [, gatewayRef, , gatewayEvent, gatewayPayload] = rest.shift().gateway
      const named = JSON.parse(JSON.stringify(gatewayPayload), (key, value) => (key === "request_id" ? ids.get(value) : value))
      send([joinRef, gatewayRef && refs.get(gatewayRef), topic, gatewayEvent, named])
    }
    if (rest.length === 0) done()
  }))
  const [refs, ids] = [new Map(), new Map()]
  const socket = new Socket(`ws://127.0.0.1:${server.address().port}/socket`, {transport: WebSocket})
  socket.connect()
  t.after(() => {
    socket.disconnect()
    server.close()
  })
  return {api: connect({socket, topic: "api:lobby", event: "api"}), begun, over}
}

const items = async stream => {
  const items = []
  for await (const item of stream) items.push(item)
  return items
}

for (const [name, use] of [
  ["result", async ({books}) =>
    assert.deepEqual(await books.v("1.0.0").find({isbn: "9780441"}), {isbn: "9780441", title: "Dune", printed: "1965-08-01"})],
  ["error", async ({books}) => {
    const {code, message, details} = await failed(books.find({}))
    assert.deepEqual([code, message, details], ["invalid_arguments", "argument validation failed", [{path: "isbn", rule: "required"}]])
  }],
  ["later", async ({books}) => assert.deepEqual(await books.reserve({isbn: "1"}), ["1", "main", "ann"])],
  ["none", async ({books}) => assert.equal(await books.note({isbn: "1"}), undefined)],
  ["deadline", async ({books}) => assert.equal((await failed(books.slow({}, {deadlineMs: 50}))).code, "timeout")],
  ["cancel", async ({books}, begun) => {
    const abort = new AbortController()
    const call = failed(books.slow({}, {signal: abort.signal}))
    await begun
    abort.abort()
    assert.equal((await call).code, "cancelled")
  }],
  ["group message", async ({chat, relay}) => {
    const heard = new Promise(resolve => relay.on(resolve))
    assert.deepEqual(await chat.say({group_id: "lobby", message: "hello"}), {status: "relayed", recipients_count: 1})
    assert.equal((await heard).message, "hello")
  }]
]) {
  test(`the exchange ${name}`, async t => {
    const {api, begun, over} = await playing(t, name)
    await use(api, begun)
    await over
  })
}

// Their credit is another one than that of the exchanges, so the server only looks for its beginning.
for (const [name, args, use] of [
  ["stream", {from: 1, to: 3}, async stream => assert.deepEqual(await items(stream), [{page: 1}, {page: 2}, {page: 3}])],
  ["last result", {n: 1}, async stream => assert.deepEqual(await items(stream), [1, 0])],
  ["broken stream", {}, async stream => assert.equal((await failed(items(stream))).code, "internal")]
]) {
  test(`the exchange ${name}`, async t => {
    const {steps} = exchanges.find(exchange => exchange.name === name)
    const type = steps[0].client[4].request_type
    const frames = steps.flatMap(({gateway}) => (gateway ? [gateway] : []))
    const channel = {
      handlers: {},
      on: (event, handler) => (channel.handlers[event] = handler),
      onClose() {},
      onError() {},
      join: () => ({receive: (_status, joined) => joined()}),
      push(_event, {request_id, service}) {
        const push = {receive: (status, callback) => ((push[status] = callback), push)}
        if (service) queueMicrotask(() => {
          const [[, , , , {response}], ...later] = frames
          push.ok({...response, request_id})
          for (const [, ref, , , payload] of later) if (ref === null) channel.handlers.api({...payload, request_id})
        })
        return push
      }
    }
    await use(connect({channel, event: "api"}).books[type](args))
  })
}
