import assert from "node:assert/strict"
import {test} from "node:test"
import {started} from "./support/client.mjs"

test("10,000 calls over 100 disconnects and 5 restarts: all settle, none is repeated that may not be, none is lost that may", async t => {
  const functions = {shop: {save: {timeoutMs: 60_000}, find: {idempotent: true, timeoutMs: 60_000}}}
  const runs = {save: new Map(), find: new Map()}
  const run = name => async ({n}) => {
    runs[name].set(n, (runs[name].get(n) ?? 0) + 1)
    // Some are cut off while they run, some before their answer arrives.
    if (n % 3 === 0) await new Promise(setImmediate)
    return n
  }
  const {api, gateway} = await started(t, {save: {run: run("save")}, find: {run: run("find")}}, {functions})
  let next = 0
  let disconnects = 0
  let restarts = 0
  let restarting
  const outcomes = {done: 0, unknown: 0}

  const worker = async () => {
    while (next < 10_000) {
      const n = next++
      const name = n % 2 ? "save" : "find"
      if (n % 95 === 94 && disconnects < 100) {
        disconnects++
        if (disconnects % 20 === 0) {
          restarts++
          restarting = gateway.restart()
        } else gateway.disconnect()
      }
      try {
        assert.equal(await api.shop[name]({n}), n)
        assert.ok(runs[name].get(n) >= 1)
        outcomes.done++
      } catch (error) {
        assert.equal(error.code, "unknown", error.stack)
        assert.equal(name, "save")
        outcomes.unknown++
      }
    }
  }
  await Promise.all(Array.from({length: 40}, worker))
  await restarting

  assert.deepEqual([disconnects, restarts], [100, 5])
  assert.equal(outcomes.done + outcomes.unknown, 10_000)
  assert.ok(outcomes.unknown > 0 && gateway.joins > 50, `${JSON.stringify(outcomes)}, ${gateway.joins} joins`)
  assert.equal(runs.find.size, 5_000)
  for (const [n, times] of runs.save) assert.equal(times, 1, `save ${n}`)
  assert.ok([...runs.find.values()].some(times => times > 1))
  t.diagnostic(`${JSON.stringify(outcomes)}, ${gateway.joins} joins`)
})
