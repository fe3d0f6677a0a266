import assert from "node:assert/strict"
import {execFileSync} from "node:child_process"
import {readdirSync, readFileSync} from "node:fs"
import {test} from "node:test"
import {gzipSync} from "node:zlib"

const modules = () => readdirSync("dist").filter(name => name.endsWith(".js"))

test("the client is at most 5 kB gzipped", t => {
  const all = Buffer.concat(modules().map(name => readFileSync(`dist/${name}`)))
  const size = gzipSync(all, {level: 9}).length
  t.diagnostic(`${size} bytes gzipped, ${all.length} as they are`)
  assert.ok(size <= 5_000, `${size} bytes`)
})

test("the package has no dependencies, and holds what it should", () => {
  const manifest = JSON.parse(readFileSync("package.json", "utf8"))
  assert.equal(manifest.dependencies, undefined)
  const packed = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {encoding: "utf8"}))
  const files = packed[0].files.map(({path}) => path).sort()
  const built = modules().flatMap(name => [`dist/${name.replace(/js$/, "d.ts")}`, `dist/${name}`])
  assert.deepEqual(files, ["LICENSE", "README.md", ...built, "package.json"].sort())
})

test("nothing names the host of a registry", () => {
  assert.doesNotMatch(readFileSync("package-lock.json", "utf8"), /"resolved"/)
})
