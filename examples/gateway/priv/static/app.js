import {Socket} from "/phoenix/phoenix.mjs"
import {connect} from "/phoenix-gen-api/index.js"

const $ = id => document.getElementById(id)
const names = ["ann", "bob", "carl", "dora", "emil", "fay", "gus", "hana"]
const user = new URLSearchParams(location.search).get("user") ||
  `${names[Math.floor(Math.random() * names.length)]}-${Math.floor(Math.random() * 1000)}`

const socket = new Socket("/socket", {params: {user}})
const channel = socket.channel("api:console")
const room = socket.channel("chat:lobby")
const api = connect({channel, event: "api"})
const {chat, relay} = connect({channel: room, event: "chat", relayEvent: "message"})

function element(tag, text, attributes = {}) {
  return Object.assign(document.createElement(tag), {textContent: text, ...attributes})
}

// Shows the result of a call, or its error, which it returns.
async function show(output, call, text) {
  try {
    output.textContent = text(await call)
    output.dataset.outcome = "ok"
  } catch (error) {
    output.textContent = error.message
    output.dataset.outcome = "error"
    return error
  }
}

const short = node => node.split("@")[0]

// Connection

$("user").textContent = user

function state(text) {
  $("status").textContent = text
  $("status").dataset.state = text
}

socket.onOpen(() => state("connected"))
socket.onError(() => state("connecting"))
socket.onClose(() => state("connecting"))
socket.connect()

// The client has joined already.
channel.joinPush.receive("ok", list).receive("error", () => state("refused"))
channel.on("functions_changed", list)

// Console

let functions = []
let selected = null

const key = f => `${f.service} ${f.request_type} ${f.version}`

function list() {
  channel.push("functions", {}).receive("ok", reply => {
    const known = new Set(functions.map(key))
    const first = known.size === 0
    functions = reply.functions
    selected = functions.find(f => selected && key(f) === key(selected)) || null

    $("functions").replaceChildren(...functions.flatMap((f, i) => {
      const button = element("button", f.request_type, {type: "button", onclick: () => select(f)})
      if (!first && !known.has(key(f))) button.className = "new"
      if (f === selected) button.setAttribute("aria-current", "true")
      button.append(element("small", [f.version, f.response_type].filter(t => !["0.0.0", "sync"].includes(t)).join(" ")))
      return f.service === functions[i - 1]?.service ? [button] : [element("h3", f.service), button]
    }))

    const quotes = functions.filter(f => f.service === "shop" && f.request_type === "quote")
    $("versions").textContent = quotes.length ? quotes.map(f => `quote ${f.version}`).join(", ") : "no shop yet"
    if (!selected && functions.length) select(quotes[0] || functions[0])
  })
}

function select(f) {
  selected = f
  for (const [i, button] of $("functions").querySelectorAll("button").entries()) {
    button.toggleAttribute("aria-current", functions[i] === f)
  }
  $("signature").replaceChildren(
    element("b", `${f.service} · ${f.request_type} ${f.version === "0.0.0" ? "" : f.version}`),
    ...f.arguments.map(text => element("div", text)),
    element("div", `${f.response_type}, on ${f.nodes.map(short).join(", ")}`)
  )
  $("args").value = JSON.stringify(f.sample, null, 2)
  $("args-error").textContent = ""
}

$("call").addEventListener("submit", async event => {
  event.preventDefault()
  if (!selected) return
  let args
  try {
    args = JSON.parse($("args").value || "{}")
    $("args-error").textContent = ""
  } catch (error) {
    $("args-error").textContent = error.message
    return
  }

  const {service, request_type, version, response_type} = selected
  const request = {service, request_type, args}
  if (!$("unversioned").checked && version !== "0.0.0") request.version = version
  $("request").textContent = JSON.stringify(request, null, 2)
  $("response").textContent = "…"
  $("timing").textContent = $("answered-by").textContent = ""

  const began = performance.now()
  const named = request.version ? api[service].v(version) : api[service]
  const call = named[request_type](args)
  const shown = []
  let outcome = "ok"
  try {
    if (response_type === "stream") {
      // Of a stream the console shows the beginning.
      for await (const item of call) if (shown.push(item) === 5) break
    } else shown.push(await call)
  } catch ({code, message, details}) {
    shown.push({code, message, details})
    outcome = "error"
  }

  $("timing").textContent = `${(performance.now() - began).toFixed(1)} ms`
  $("timing").dataset.outcome = outcome
  const node = shown[0]?.node
  $("answered-by").textContent = node ? short(node) : ""
  $("response").textContent = shown.map(result => JSON.stringify(result ?? null, null, 2)).join("\n")
})

$("args").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("call").requestSubmit()
})

// A new version

for (const [id, release] of [["publish", "2"], ["withdraw", "1"]]) {
  $(id).addEventListener("click", () =>
    show($("quoted"), api.releases.publish({release}), result =>
      Object.entries(result).map(([node, text]) => `${short(node)}: ${text}`).join(", ")))
}

$("quote").addEventListener("click", () =>
  show($("quoted"), api.shop.quote({item: "tea", quantity: 10}), result =>
    `${result.total} ${result.discount ? `after a discount of ${result.discount}` : "without discount"}, from ${short(result.node)}`))

// Rate limit

$("buy").addEventListener("click", async () => {
  const error = await show($("bought"), api.shop.buy({item: "tea"}), result => `Bought ${result.bought}, from ${short(result.node)}`)
  const wait = error?.code === "rate_limited" && error.details[0].retry_after_ms
  if (wait) countdown(performance.now() + wait, wait)
})

function countdown(until, total) {
  const left = until - performance.now()
  $("buy").disabled = left > 0
  $("retry-bar").style.width = `${Math.max(0, left / total * 100)}%`
  $("retry").textContent = left > 0 ? `Again in ${Math.ceil(left / 1000)} s` : "You may buy again."
  if (left > 0) requestAnimationFrame(() => countdown(until, total))
}

// Stream

let prices = []
let stop

$("start").addEventListener("click", async () => {
  prices = []
  stop = new AbortController()
  $("start").disabled = true
  $("cancel").disabled = false
  $("stream-state").textContent = "running"
  try {
    for await (const item of api.shop.prices({item: "tea"}, {signal: stop.signal})) price(item)
    $("stream-state").textContent = "ended"
  } catch (error) {
    $("stream-state").textContent = error.code === "cancelled" ? "ended" : error.message
  }
  $("start").disabled = false
  $("cancel").disabled = true
})

$("cancel").addEventListener("click", () => stop.abort())

function price({cents, node}) {
  prices.push(cents)
  $("price").textContent = `${cents} ¢`
  $("count").textContent = `${prices.length} frames`
  $("stream-node").textContent = short(node)
  const shown = prices.slice(-60)
  const [low, high] = [Math.min(...shown), Math.max(...shown, Math.min(...shown) + 1)]
  $("line").setAttribute("points", shown.map((c, i) => `${i * 300 / 59},${72 - (c - low) / (high - low) * 64}`).join(" "))
}

// Chat

room.joinPush.receive("error", reply => { $("heard").textContent = `Not in the chat: ${reply.reason}` })

relay.on(said => {
  const line = element("li", "", {className: said.from_user_id === user ? "own" : ""})
  line.append(
    element("time", new Date(said.timestamp).toLocaleTimeString()),
    element("b", said.from_user_id), ` ${said.message}`
  )
  $("messages").append(line)
  $("messages").scrollTop = $("messages").scrollHeight
})

$("say").addEventListener("submit", async event => {
  event.preventDefault()
  const message = $("message").value
  $("message").value = ""
  await show($("heard"), chat.say({group_id: "lobby", message}), result => `Heard by ${result.recipients_count}`)
})
