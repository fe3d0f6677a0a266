// The page itself in headless Chromium; URL says where it is, CHROMIUM the path of the browser.
import assert from "node:assert/strict"
import {after, afterEach, before, test} from "node:test"
import {mkdir, mkdtemp, rm} from "node:fs/promises"
import {tmpdir} from "node:os"
import {join} from "node:path"
import {chromium} from "playwright-core"

const screenshots = process.env.SCREENSHOTS
let browser, profile
const problems = []

before(async () => {
  profile = await mkdtemp(join(tmpdir(), "gateway-page-"))
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    headless: true,
    viewport: {width: 1280, height: 1000},
    colorScheme: "light",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync"]
  })
  browser.setDefaultTimeout(15_000)
  if (screenshots) await mkdir(screenshots, {recursive: true})
})

after(async () => {
  await browser?.close()
  await rm(profile, {recursive: true, force: true})
})

afterEach(() => assert.deepEqual(problems.splice(0), []))

async function open(user) {
  const page = await browser.newPage()
  page.on("pageerror", error => problems.push(String(error)))
  page.on("console", message => message.type() === "error" && problems.push(message.text()))
  await page.goto(`${process.env.URL}/?user=${user}`)
  await page.locator("#status[data-state=connected]").waitFor()
  await page.locator("#functions button", {hasText: "stock"}).waitFor()
  return page
}

const shot = async (page, name) => {
  if (screenshots) await page.screenshot({path: join(screenshots, `${name}.png`), fullPage: true})
}

const text = (page, selector, pattern) => page.locator(selector).filter({hasText: pattern}).waitFor()

test("the console calls a function and shows request, response, time and node", async () => {
  const page = await open("ann")
  await page.locator("#functions button", {hasText: "quote"}).first().click()
  await page.locator("#args").fill('{"item": "coffee", "quantity": 3}')
  await page.locator("#args").press("Control+Enter")
  await text(page, "#response", '"total": 12')
  assert.equal(JSON.parse(await page.locator("#request").textContent()).request_type, "quote")
  assert.match(await page.locator("#timing").textContent(), /^\d+\.\d ms$/)
  assert.match(await page.locator("#answered-by").textContent(), /^shop_[ab]/)
  await shot(page, "console")

  await page.locator("#args").fill('{"item": "gold"}')
  await page.locator("#send").click()
  await text(page, "#response", "argument validation failed")
  await page.locator("#args").fill("{")
  await page.locator("#send").click()
  await text(page, "#args-error", /JSON/)
  await page.close()
})

test("a version that is published shows up without a reload, and goes again", async () => {
  const page = await open("ann")
  await page.locator("#withdraw").click()
  await text(page, "#versions", /^quote 1\.0\.0$/)
  await page.locator("#quote").click()
  await text(page, "#quoted", "50 without discount")
  await page.locator("#publish").click()
  await text(page, "#versions", "quote 1.0.0, quote 2.0.0")
  await page.locator("#quote").click()
  await text(page, "#quoted", "45 after a discount of 5")
  await shot(page, "published")
  await page.locator("#withdraw").click()
  await text(page, "#versions", /^quote 1\.0\.0$/)
  await page.close()
})

test("two tabs chat", async () => {
  const [ann, bob] = [await open("ann"), await open("bob")]
  await ann.locator("#message").fill("Hello <b>Bob</b>")
  await ann.locator("#message").press("Enter")
  for (const page of [ann, bob]) await text(page, "#messages li", "ann Hello <b>Bob</b>")
  await bob.locator("#message").fill("Hello Ann")
  await bob.locator("#message").press("Enter")
  for (const page of [ann, bob]) await text(page, "#messages li", "bob Hello Ann")
  await text(bob, "#heard", /^Heard by \d+$/)
  assert.equal(await ann.locator("#messages li").count(), 2)
  await shot(bob, "chat")
  await ann.close()
  await bob.close()
})

test("a stream runs until it is cancelled", async () => {
  const page = await open("ann")
  await page.locator("#start").click()
  await text(page, "#count", /^(1\d|[2-9]\d) frames$/)
  await shot(page, "stream")
  await page.locator("#cancel").click()
  await text(page, "#stream-state", "ended")
  const count = await page.locator("#count").textContent()
  await new Promise(resolve => setTimeout(resolve, 600))
  assert.equal(await page.locator("#count").textContent(), count)
  await page.close()
})

test("a limit is hit, counts down and ends", async () => {
  const page = await open(`buyer-${process.pid}`)
  for (let i = 0; i < 3; i++) {
    await page.locator("#buy").click()
    await page.locator("#bought[data-outcome=ok]").waitFor()
  }
  await page.locator("#buy").click()
  await text(page, "#bought", /^Rate limit exceeded/)
  assert.equal(await page.locator("#buy").isDisabled(), true)
  await text(page, "#retry", /^Again in \d+ s$/)
  await shot(page, "limited")
  await text(page, "#retry", "You may buy again.")
  await page.locator("#buy").click()
  await text(page, "#bought", /^Bought tea/)
  await page.close()
})

test("it is usable on a small dark screen: nothing is wider than it", async () => {
  const page = await open("ann")
  await page.emulateMedia({colorScheme: "dark"})
  await page.setViewportSize({width: 375, height: 800})
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth))
  await shot(page, "small-dark")
  await page.setViewportSize({width: 1280, height: 1000})
  await shot(page, "dark")
  await page.close()
})
