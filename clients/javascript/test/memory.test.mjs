import assert from "node:assert/strict"
import {test} from "node:test"
import {setFlagsFromString} from "node:v8"
import {runInNewContext} from "node:vm"
import {connect} from "../dist/index.js"

setFlagsFromString("--expose-gc")
const gc = runInNewContext("gc")

// A channel in this process, without what the socket and its library allocate.
function channel() {
  const handlers = new Map()
  const push = () => {
    const push = {receive: (status, callback) => ((push[status] = callback), push)}
    return push
  }
  return {
    calls: 0,
    on: (event, handler) => handlers.set(event, handler),
    onClose() {},
    onError() {},
    leave() {},
    join: () => ({receive: (_status, joined) => joined()}),
    push(_event, {request_id, request_type, cancel, credit, service}) {
      const made = push()
      const answer = fields => ({request_id, success: true, result: null, async: false, has_more: false, ...fields})
      queueMicrotask(() => {
        if (cancel || (credit && !service)) return made.ok({request_id})
        this.calls++
        if (request_type === "fail") return made.error(answer({success: false, code: "sold_out", error: "Sold out"}))
        if (request_type !== "ticks") return made.ok(answer({result: 1}))
        made.ok(answer({async: true, has_more: true}))
        for (const result of [1, 2]) handlers.get("api")(answer({async: true, has_more: true, result}))
        handlers.get("api")(answer({async: true}))
      })
      return made
    }
  }
}

async function heap() {
  for (let i = 0; i < 3; i++) {
    await new Promise(setImmediate)
    gc()
  }
  return process.memoryUsage().heapUsed
}

test("100,000 calls leave nothing behind, whatever becomes of them", async () => {
  const own = channel()
  const api = connect({channel: own, event: "api"})
  const {signal} = new AbortController()
  const some = async calls => {
    for (let n = 0; n < calls; n += 5) {
      await api.shop.price({n}, {signal})
      await api.shop.fail({n}).catch(() => {})
      for await (const _item of api.shop.ticks({n}, {signal}));
      for await (const _item of api.shop.ticks({n})) break
      await api.shop.price({n}, {signal: AbortSignal.abort()}).catch(() => {})
    }
  }
  await some(20_000)
  const before = await heap()
  await some(100_000)
  const grown = (await heap()) - before
  assert.ok(own.calls >= 90_000)
  // Less than three bytes for each call.
  assert.ok(grown < 300_000, `${grown} bytes more`)
})
