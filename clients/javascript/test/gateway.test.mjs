// Over HTTP, against the gateway of this repository on the web server of OTP.
import assert from "node:assert/strict"
import {spawn, spawnSync} from "node:child_process"
import {createInterface} from "node:readline"
import {after, before, test} from "node:test"
import {connect} from "../dist/index.js"
import {failed} from "./support/client.mjs"

const functions = {shop: {
  numbers: {kind: "stream"}, failing: {kind: "stream"}, endless: {kind: "stream"},
  forget: {kind: "none"}, echo: {}, "echo@2.0.0": {}, away: {idempotent: true}
}}

const there = spawnSync("mix", ["--version"]).status === 0
if (!there && process.env.GEN_API_JAVASCRIPT === "required") throw new Error("there is no mix")
const skip = there ? false : "there is no mix"

let gateway
let api
let url

before(async () => {
  if (!there) return
  gateway = spawn("mix", ["run", "clients/javascript/test/support/gateway.exs"], {
    cwd: "../..",
    env: {...process.env, MIX_ENV: "dev"},
    stdio: ["pipe", "pipe", "inherit"]
  })
  for await (const line of createInterface({input: gateway.stdout})) {
    const port = /^port (\d+)$/.exec(line)?.[1]
    if (!port) continue
    url = `http://127.0.0.1:${port}`
    api = connect({url, functions})
    break
  }
  assert.ok(api, "the gateway did not start")
  gateway.stdout.resume()
})

after(() => gateway?.stdin.end())

test("results, arguments with defaults, versions", {skip}, async () => {
  assert.deepEqual(await api.shop.echo({item: "tea"}), {item: "tea", quantity: 1})
  assert.equal(await api.shop.v("2.0.0").echo({a: [1, {b: "é\u2028"}]}), "2.0.0")
  const {user_id, id} = await api.shop.whoami()
  assert.equal(user_id, "ann")
  assert.match(id, /^[0-9a-f]{32}$/)
})

test("errors say what is wrong", {skip}, async () => {
  const errors = await Promise.all([
    api.shop.echo({quantity: 10}),
    api.shop.boom(),
    api.shop.sold_out(),
    api.shop.admin(),
    api.shop.nothing()
  ].map(failed))
  assert.deepEqual(errors.map(({code}) => code), ["invalid_arguments", "internal", "sold_out", "forbidden", "unknown_function"])
  const [invalid, internal, soldOut] = errors
  assert.deepEqual(invalid.details.map(({path, rule}) => [path, rule]), [["item", "required"], ["quantity", "max"]])
  assert.equal(internal.details[0].executed, "yes")
  assert.deepEqual([soldOut.message, soldOut.details], ["Sold out", [{left: 0}]])
})

test("what was not executed is tried three times", {skip}, async () => {
  const error = await failed(api.shop.away())
  assert.deepEqual([error.code, error.canRetry, error.details], ["unavailable", true, [{executed: "no"}]])
})

test("functions that answer later, and not at all", {skip}, async () => {
  assert.equal(await api.shop.later({text: "done"}), "DONE")
  assert.equal(await api.shop.forget(), undefined)
  while ((await api.shop.forgotten()) < 1);
})

test("a deadline is the gateway's", {skip}, async () => {
  const left = await api.shop.left({}, {deadlineMs: 3_000})
  assert.ok(left > 0 && left <= 3_000, `${left}`)
})

test("a stream, one that fails, and one that is not there", {skip}, async () => {
  const items = []
  for await (const item of api.shop.numbers({n: 2_000}, {credit: 3})) items.push(item)
  assert.deepEqual(items, Array.from({length: 2_000}, (_, n) => n + 1))

  const some = []
  const error = await failed((async () => { for await (const item of api.shop.failing()) some.push(item) })())
  assert.deepEqual([error.code, some], ["internal", [1, 2]])
  assert.equal((await failed(api.shop.numbers({n: "many"}).next())).code, "invalid_arguments")
})

test("without the constant of the generated file", {skip}, async () => {
  const plain = connect({url})
  const items = []
  for await (const item of plain.shop.numbers({n: 3})) items.push(item)
  assert.deepEqual(items, [1, 2, 3])
  assert.deepEqual(await plain.shop.echo({item: "tea"}), {item: "tea", quantity: 1})
  assert.equal((await failed(plain.shop.numbers({n: 3}))).code, "stream")
})

test("leaving a loop, and abort, end the function", {skip}, async () => {
  for await (const item of api.shop.endless()) if (item) break
  const abort = new AbortController()
  const error = await failed((async () => {
    for await (const item of api.shop.endless({}, {signal: abort.signal})) if (item) abort.abort()
  })())
  assert.equal(error.code, "cancelled")
  while ((await api.shop.open()) > 0);
})
