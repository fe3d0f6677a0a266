// The console in headless Chromium, against the gateway of `bin/demo --serve`. URL is the console's address,
// CHROMIUM the path of the browser, SCREENSHOTS a folder for pictures of every state.
import {connect} from "../../clients/javascript/dist/index.js"
import assert from "node:assert/strict"
import {after, before, test} from "node:test"
import {mkdir, mkdtemp, rm} from "node:fs/promises"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {chromium} from "playwright-core"

const url = process.env.URL
const screenshots = process.env.SCREENSHOTS
let browser, profile

before(async () => {
  profile = await mkdtemp(join(tmpdir(), "console-"))
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    headless: true,
    viewport: {width: 1280, height: 900},
    permissions: ["clipboard-read", "clipboard-write"],
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  })
  browser.setDefaultTimeout(30_000)
  if (screenshots) await mkdir(screenshots, {recursive: true})
})

after(async () => {
  await browser?.close()
  await rm(profile, {recursive: true, force: true})
})

// A test with a page of its own. Nothing may go wrong in the page, nor be asked of another host.
function pageTest(name, run, {prepare, failures} = {}) {
  test(name, async () => {
    const page = await browser.newPage()
    const problems = []
    page.on("pageerror", error => problems.push(String(error)))
    page.on("console", message => {
      const text = message.text()
      if (message.type() === "error" && !/^Failed to load resource/.test(text)) problems.push(text)
    })
    page.on("request", request => {
      if (new URL(request.url()).protocol.startsWith("http") && new URL(request.url()).host !== new URL(url).host) problems.push(request.url())
    })
    page.on("dialog", dialog => { problems.push(`dialog: ${dialog.message()}`); dialog.dismiss() })
    try {
      await prepare?.(page)
      await page.goto(url)
      await page.locator("#connection.up").waitFor()
      await run(page)
      assert.deepEqual(problems, [])
    } finally {
      await page.close()
    }
  })
}

const shot = async (page, name) => {
  if (screenshots) await page.screenshot({path: join(screenshots, `${name}.png`)})
}

async function open(page, service, type, version) {
  await page.goto(`${url}#/${[service, type, version].filter(Boolean).join("/")}`)
  await page.locator("#name", {hasText: `${service} / ${type}`}).waitFor()
}

const call = page => page.getByRole("button", {name: "Call", exact: true}).click()
const outcome = (page, pattern) => page.locator("#outcome", {hasText: pattern}).waitFor()
const described = (contract, change) => page => page.route("**/console.json", async route => {
  const answer = await route.fetch()
  const body = await answer.json()
  await route.fulfill({response: answer, json: {...body, contract: change(body.contract)}})
})

pageTest("a function is called from its form", async page => {
  await page.getByRole("heading", {name: "Choose a function"}).waitFor()
  await shot(page, "start")
  await page.getByRole("button", {name: "price", exact: true}).click()
  assert.equal(await page.title(), "shop price · phoenix_gen_api")
  await page.getByLabel("item").selectOption("tea")
  await page.getByLabel("quantity").fill("3")
  assert.deepEqual(JSON.parse(await page.getByLabel("Arguments as JSON").inputValue()), {item: "tea", quantity: 3})
  await call(page)
  await outcome(page, /200 OK.*\d ms/)
  assert.deepEqual(JSON.parse(await page.locator("#body").textContent()), {item: "tea", quantity: 3, total: 9})
  await shot(page, "answer")
})

pageTest("the JSON and the form are two views of the same arguments", async page => {
  await open(page, "shop", "price")
  const json = page.getByLabel("Arguments as JSON")
  await json.fill('{"item": "coffee"}')
  assert.equal(await page.getByLabel("item").inputValue() , "1")
  await json.fill("{")
  await page.locator("#json-error", {hasText: "No valid JSON"}).waitFor()
  assert.equal(await json.getAttribute("aria-invalid"), "true")
  await call(page)
  assert.equal(await page.locator("#answer").isVisible(), false)
  await json.fill('{"item": 5, "quantity": 12345678901234567890}')
  await call(page)
  await outcome(page, "422")
  await shot(page, "json")
})

pageTest("problems are shown at their fields", async page => {
  await open(page, "shop", "order")
  await page.getByLabel("at", {exact: true}).fill("yesterday")
  await page.getByLabel("quantity").fill("12")
  await call(page)
  await outcome(page, "422")
  await page.locator(".field", {hasText: "must be a date and time"}).getByLabel("at", {exact: true}).waitFor()
  const quantity = page.locator('[data-path="order.lines[0].quantity"]')
  assert.equal(await quantity.getAttribute("aria-invalid"), "true")
  const describedBy = (await quantity.getAttribute("aria-describedby")).split(" ").at(-1)
  assert.equal(await page.locator(`#${describedBy}`).textContent(), "must be at most 9")
  assert.equal(await page.evaluate(() => document.activeElement.dataset.path), "order.at")
  await shot(page, "problems")

  // What has no field is told above.
  const json = page.getByLabel("Arguments as JSON")
  await json.fill(JSON.stringify({order: {at: "2026-01-31T12:00:00Z", lines: [{item: "tea", quantity: 2}], more: 1}}))
  await call(page)
  await page.locator("#problems", {hasText: "order.more is not declared"}).waitFor()

  await json.fill(JSON.stringify({order: {at: "2026-01-31T12:00:00Z", lines: [{item: "tea", quantity: 2}]}}))
  await page.getByRole("button", {name: "Add an item to lines"}).click()
  await page.locator('[data-path="order.lines[1].item"]').selectOption("cake")
  await call(page)
  await outcome(page, "200")
  assert.match(await page.locator("#body").textContent(), /"total": 12/)
  assert.equal(await page.locator('[aria-invalid="true"]').count(), 0)
})

pageTest("a stream arrives frame by frame, and is cancelled", async page => {
  await open(page, "shop", "prices")
  await call(page)
  await page.locator("#frames li:nth-child(3)").waitFor()
  await outcome(page, "Streaming")
  await shot(page, "stream")
  await page.getByRole("button", {name: "Cancel"}).click()
  await outcome(page, /Cancelled.*\d+ frames/)
  const count = await page.locator("#frames li").count()
  assert.equal(await page.getByRole("button", {name: "Call", exact: true}).isEnabled(), true)
  await call(page)
  await page.locator("#frames li:nth-child(2)").waitFor()
  assert.ok(count >= 3)
  // Whoever looks at another function has no use for it.
  await open(page, "shop", "countdown")
  assert.equal(await page.locator("#answer").isVisible(), false)
})

pageTest("a long stream keeps the page small and says how much it was", async page => {
  await open(page, "shop", "countdown")
  await page.getByLabel("from").fill("5000")
  await call(page)
  await outcome(page, /Complete.*5001 frames/)
  assert.equal(await page.locator("#frames li").count(), 1000)
  await page.getByText("The last 1000 of 5001 frames").waitFor()
  await shot(page, "long-stream")
})

pageTest("a long result is shown in parts", async page => {
  await open(page, "shop", "report")
  await page.getByLabel("lines").fill("20000")
  await call(page)
  await outcome(page, /200.*KB/)
  assert.equal((await page.locator("#body").textContent()).length, 100000)
  await page.getByRole("button", {name: /Show the other/}).scrollIntoViewIfNeeded()
  await shot(page, "long-result")
  await page.getByRole("button", {name: /Show the other/}).click()
  assert.equal(JSON.parse(await page.locator("#body").textContent()).length, 20000)
})

pageTest("failures say what happened", async page => {
  for (const [type, status, sentence] of [
    ["broken", "500", "Internal Server Error (internal)"], ["buy", "422", "is sold out (sold_out)"], ["restock", "403", "Permission denied (forbidden)"],
  ]) {
    await open(page, "shop", type)
    await call(page)
    await outcome(page, status)
    await page.locator("#sentence", {hasText: sentence}).waitFor()
    assert.doesNotMatch(await page.content(), /hunter2/)
  }
  await shot(page, "failure")
})

pageTest("a call that runs can be cancelled, and has a deadline", async page => {
  await open(page, "shop", "slow")
  await page.getByLabel("seconds").fill("4")
  await call(page)
  await outcome(page, "Running")
  await page.getByRole("button", {name: "Cancel"}).click()
  await outcome(page, "Cancelled")
  await page.getByText("Request options").click()
  await page.getByLabel("Deadline (ms)").fill("100")
  await page.getByLabel("Request id").fill("my-id")
  await call(page)
  await outcome(page, /504.*id my-id/)
  await page.locator("#sentence", {hasText: "Request timed out after 100ms (timeout)"}).waitFor()
})

pageTest("who calls can be changed", async page => {
  await page.getByRole("button", {name: "Who is calling: ann"}).click()
  await page.getByLabel("User id").fill("zoë")
  await page.getByLabel("Roles").fill("admin, buyer")
  await shot(page, "identity")
  await page.getByRole("button", {name: "Save"}).click()
  await page.getByRole("button", {name: "Who is calling: zoë (admin, buyer)"}).waitFor()
  await open(page, "shop", "restock")
  await call(page)
  await outcome(page, "200")
  assert.match(await page.locator("#body").textContent(), /"by": "zoë"/)
  await page.getByRole("button", {name: "Who is calling: zoë (admin, buyer)"}).click()
  await page.getByLabel("User id").fill("")
  await page.getByLabel("User id").press("Enter")
  await page.getByRole("button", {name: "Who is calling: Anonymous"}).waitFor()
  await call(page)
  await outcome(page, "401")
})

pageTest("text of functions, results and errors is never markup", async page => {
  await open(page, "text", "echo")
  await page.locator("#doc", {hasText: "<script>alert(1)</script>"}).waitFor()
  const hostile = '</script><img src=x onerror="alert(1)"><script>alert(2)</script>'
  await page.getByLabel("Arguments as JSON").fill(JSON.stringify({text: hostile}))
  await call(page)
  await outcome(page, "200")
  assert.equal(JSON.parse(await page.locator("#body").textContent()), hostile)
  assert.equal(await page.locator("#answer img, #answer script, #doc script, #doc b").count(), 0)
  await page.getByLabel("Arguments as JSON").fill(JSON.stringify({text: "a", [hostile]: 1}))
  await call(page)
  await page.locator("#problems", {hasText: "onerror"}).waitFor()
  assert.equal(await page.locator("#problems img").count(), 0)
  await shot(page, "markup")
})

pageTest("descriptions that are hostile are only text", async page => {
  await page.getByRole("button", {name: /onerror/}).click()
  await page.locator("#doc", {hasText: "<svg"}).waitFor()
  assert.equal(await page.locator("main svg, main img, nav img, main iframe").count(), 0)
  const hrefs = await page.locator("[href]").evaluateAll(all => all.map(each => each.getAttribute("href")))
  assert.deepEqual(hrefs.filter(href => !href.startsWith("#") && !href.startsWith("data:")), [])
}, {prepare: described(null, contract => {
  const bad = '<img src=x onerror=alert(1)>'
  const version = {...contract.services[0].functions[0].versions[0], doc: "<svg onload=alert(1)>", deprecated: bad, tags: [bad], version: bad}
  return {...contract, services: [{service: bad, functions: [{request_type: bad, default_version: bad, versions: [version]}]}]}
})})

pageTest("a function with versions has a choice of them", async page => {
  await open(page, "text", "shout")
  assert.equal(await page.getByLabel("Version").inputValue(), "2.0.0")
  await page.getByLabel("Version").selectOption("1.0.0")
  await page.getByRole("textbox", {name: "text", exact: true}).fill("x".repeat(30))
  await call(page)
  await outcome(page, "422")
  await page.getByText("must have at most 20 characters").waitFor()
})

pageTest("functions are found by name, text and tag", async page => {
  await page.keyboard.press("/")
  await page.keyboard.type("price")
  await page.locator("#found", {hasText: "3 of 15 functions"}).waitFor()
  await page.getByLabel("Search functions").fill("catalogue")
  await page.locator("#found", {hasText: "1 of 15 functions"}).waitFor()
  await page.getByLabel("Search functions").fill("nothing at all")
  await page.getByText("No function matches.").waitFor()
  await shot(page, "search")
})

pageTest("everything can be done with the keyboard", async page => {
  await page.keyboard.press("/")
  await page.keyboard.type("shop countdown")
  await page.keyboard.press("ArrowDown")
  await page.keyboard.press("Enter")
  await page.locator("#name", {hasText: "countdown"}).waitFor()
  for (let presses = 0; presses < 20; presses++) {
    if (await page.evaluate(() => document.activeElement.dataset.path === "from")) break
    await page.keyboard.press("Tab")
  }
  await page.keyboard.press("Control+a")
  await page.keyboard.type("3")
  await shot(page, "keyboard")
  await page.keyboard.press("Control+Enter")
  await outcome(page, /Complete.*4 frames/)
  // Each control has a name, and shows that it has the focus.
  const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select, textarea, a")]
    .filter(each => each.checkVisibility() && !(each.textContent.trim() || each.getAttribute("aria-label") || each.labels?.length))
    .map(each => each.outerHTML))
  assert.deepEqual(nameless, [])
})

pageTest("a call is copied as curl and as JavaScript", async page => {
  await open(page, "text", "echo")
  await page.getByLabel("Arguments as JSON").fill(`{"text": "it's"}`)
  await page.getByRole("button", {name: "Copy as curl"}).click()
  await page.getByText("Copied as curl").waitFor()
  const clipboard = () => page.evaluate(() => navigator.clipboard.readText())
  const curl = await clipboard()
  assert.match(curl, /^curl 'http:\/\/localhost:\d+\/text\/echo'/)
  const {execFileSync} = await import("node:child_process")
  assert.equal(JSON.parse(execFileSync("sh", ["-c", curl.replace(/^curl/, "curl -s")])).result, "it's")
  await page.getByRole("button", {name: "Copy as JavaScript"}).click()
  await page.getByText("Copied as JavaScript").waitFor()
  // As a module would, with the client of this repository.
  const run = code => {
    const [, rest] = code.split('import {connect} from "phoenix-gen-api"\n')
    const logged = []
    const log = value => logged.push(value)
    return new Function("connect", "console", `return (async () => {${rest}})()`)(connect, {log}).then(() => logged)
  }
  assert.deepEqual(await run(await clipboard()), ["it's"])

  await open(page, "shop", "countdown")
  await page.getByLabel("from").fill("2")
  await page.getByRole("button", {name: "Copy as JavaScript"}).click()
  await page.getByText("Copied as JavaScript").waitFor()
  assert.deepEqual(await run(await clipboard()), [2, 1, 0])
})

pageTest("a gateway without functions says what to do", async page => {
  await page.getByRole("heading", {name: "No functions yet"}).waitFor()
  await shot(page, "empty")
}, {prepare: described(null, contract => ({...contract, services: []}))})

pageTest("500 functions are listed and searched", async page => {
  await page.locator("#found", {hasText: "500 functions"}).waitFor()
  await shot(page, "500")
  await page.getByLabel("Search functions").fill("function_499")
  await page.locator("#found", {hasText: "1 of 500"}).waitFor()
}, {prepare: described(null, contract => {
  const {versions} = contract.services.find(each => each.service === "shop").functions[0]
  const services = Array.from({length: 10}, (_, s) => ({service: `service_${s}`, functions: Array.from({length: 50}, (_, f) =>
    ({request_type: `function_${s * 50 + f}`, default_version: "0.0.0", versions}))}))
  return {...contract, services}
})})

pageTest("it fits a narrow screen and a dark one", async page => {
  await page.emulateMedia({colorScheme: "dark"})
  await open(page, "shop", "order")
  await shot(page, "dark")
  await page.setViewportSize({width: 360, height: 740})
  await shot(page, "narrow-dark")
  await page.emulateMedia({colorScheme: "light"})
  await shot(page, "narrow")
  await page.getByRole("button", {name: "Functions"}).click()
  await shot(page, "narrow-menu")
  await page.getByRole("button", {name: "report"}).click()
  await page.getByRole("tab", {name: "JSON"}).click()
  await page.getByLabel("Arguments as JSON").fill('{"lines": 3}')
  await call(page)
  await outcome(page, "200")
  await page.locator("#answer").scrollIntoViewIfNeeded()
  await shot(page, "narrow-answer")
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth))
})

pageTest("a gateway that is gone is said to be, and found again", async page => {
  await open(page, "shop", "price")
  await page.route("**/*", route => route.abort())
  await call(page)
  await outcome(page, "No answer")
  await page.locator("#banner", {hasText: "The gateway does not answer"}).waitFor()
  await page.locator("#connection.down").waitFor()
  await shot(page, "gone")
  await page.unroute("**/*")
  await page.locator("#connection.up").waitFor()
  assert.equal(await page.locator("#banner").isVisible(), false)
  await call(page)
  await outcome(page, "200")
})

// The last one: nobody starts the node again.
pageTest("the death of a node ends its stream, and the other one goes on serving", async page => {
  const processes = {}
  while (Object.keys(processes).length < 2) {
    const {result} = await (await fetch(`${url}cluster/where`, {method: "POST"})).json()
    processes[result.node] = result.process
  }

  await open(page, "shop", "prices")
  await call(page)
  const {node} = JSON.parse(await page.locator("#frames li:nth-child(2) .what").textContent())
  process.kill(Number(processes[node]), "SIGKILL")
  await outcome(page, "Failed")
  await page.locator("#sentence", {hasText: "Service temporarily unavailable (unavailable)"}).waitFor()
  await shot(page, "node-gone")

  await open(page, "cluster", "where")
  for (let calls = 0; calls < 4; calls++) {
    await call(page)
    await outcome(page, "200")
    assert.notEqual(JSON.parse(await page.locator("#body").textContent()).node, node)
  }
})
