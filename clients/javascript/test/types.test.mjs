import assert from "node:assert/strict"
import {resolve} from "node:path"
import {test} from "node:test"
import ts from "typescript"

const options = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext,
  lib: ["lib.es2022.d.ts", "lib.dom.d.ts"],
  types: [],
  strict: true,
  noUncheckedIndexedAccess: true,
  noEmit: true
}

// The library's own declarations are parsed once.
const parsed = new Map()

/** The errors of files, of which some are only here, as `code: message`. */
function errors(files, virtual = {}) {
  const host = ts.createCompilerHost(options)
  const {getSourceFile, fileExists, readFile} = host
  host.fileExists = name => name in virtual || fileExists(name)
  host.readFile = name => virtual[name] ?? readFile(name)
  host.getSourceFile = (name, ...rest) => {
    if (name in virtual) return ts.createSourceFile(name, virtual[name], rest[0])
    if (!parsed.has(name)) parsed.set(name, getSourceFile(name, ...rest))
    return parsed.get(name)
  }
  return ts
    .getPreEmitDiagnostics(ts.createProgram(files, options, host))
    .map(({code, messageText}) => `${code}: ${ts.flattenDiagnosticMessageText(messageText, "\n")}`)
}

const here = name => resolve("test/types", name)
const check = code => errors([here("virtual.ts")], {[here("virtual.ts")]: using(code)})

const using = code => `
import {connect} from "phoenix-gen-api"
import type {Api} from "./gen_api.js"
const api = connect<Api>({url: "/gen_api"})
${code}
`

test("what a user writes compiles, with the sockets of phoenix", () => {
  assert.deepEqual(errors([here("usage.ts")]), [])
})

test("without mistakes there are no errors", () => {
  assert.deepEqual(check('api.shop.price({item: "tea"}).then(({total}) => total.toFixed())'), [])
})

for (const [mistake, code, expected] of [
  ["a renamed argument", 'api.shop.price({itme: "tea"})', /itme|'item' is missing/],
  ["a missing argument", "api.shop.price({quantity: 1})", /'item' is missing/],
  ["no arguments where there must be some", "api.shop.price()", /Expected 1-2 arguments/],
  ["an argument of another type", 'api.shop.price({item: "tea", quantity: "3"})', /'string' is not assignable to type 'number'/],
  ["a value that an enum has not", 'api.shop.orders({status: "lost"})', /"lost"/],
  ["an undeclared argument", 'api.shop.price({item: "tea", colour: "green"})', /'colour' does not exist/],
  ["an unknown field of a result", 'api.shop.price({item: "tea"}).then(price => price.sum)', /'sum' does not exist/],
  ["an unknown field of an item", 'async () => { for await (const price of api.shop.prices({symbol: "T"})) price.sum }', /'sum' does not exist/],
  ["an unknown function", "api.shop.prize({})", /'prize' does not exist/],
  ["an unknown service", "api.shpo.price({})", /'shpo' does not exist/],
  ["an unknown version", 'api.shop.v("3.0.0")', /"3.0.0"/],
  ["awaiting the items of a stream", 'api.shop.prices({symbol: "T"}).then(() => 1)', /'then' does not exist/],
  ["iterating over what is no stream", "async () => { for await (const open of api.shop.open()) open }", /asyncIterator/],
  ["neither a socket nor a url", "connect<Api>({})", /No overload|not assignable/]
]) {
  test(`${mistake} is an error`, () => {
    const found = check(code)
    assert.equal(found.length, 1, found.join("\n"))
    assert.match(found[0], expected)
  })
}

test("500 functions compile in less than 5 seconds", t => {
  const names = Array.from({length: 500}, (_, n) => `function_${n}`)
  const types = names.map(name => `    /** The ${name}. */
    ${name}(
      args: {id: string; status?: "open" | "paid"; lines: {item: string; quantity: number}[]; note?: string | null},
      options?: CallOptions
    ): Promise<{id: string; total: number; ${name}: {at: string; by: string | null}[]}>`)
  const api = `
import type {CallOptions} from "phoenix-gen-api"
export interface Api {
  shop: {
${types.join("\n\n")}
  }
}`
  const usage = `
import {connect} from "phoenix-gen-api"
import type {Api} from "./large.js"
const api = connect<Api>({url: "/gen_api"})
${names.map(name => `export const ${name} = async () => (await api.shop.${name}({id: "1", lines: []})).${name}[0]?.by?.length`).join("\n")}
`
  const measure = () => {
    parsed.clear()
    const before = process.cpuUsage()
    const found = errors([here("large_usage.ts")], {[here("large.ts")]: api, [here("large_usage.ts")]: usage})
    const {user, system} = process.cpuUsage(before)
    assert.deepEqual(found, [])
    return (user + system) / 1e6
  }
  // Of the processor, and the better of two: others may use the machine.
  const seconds = Math.min(measure(), measure())
  t.diagnostic(`${seconds.toFixed(2)} s`)
  assert.ok(seconds < 5, `${seconds} s`)
})
