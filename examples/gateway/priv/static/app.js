import {Socket} from "/phoenix/phoenix.mjs"
import {genApi} from "/gen_api.js"

const $ = id => document.getElementById(id)
const names = ["ann", "bob", "carl", "dora", "emil", "fay", "gus", "hana"]
const user = new URLSearchParams(location.search).get("user") ||
  `${names[Math.floor(Math.random() * names.length)]}-${Math.floor(Math.random() * 1000)}`

const socket = new Socket("/socket", {params: {user}})
const channel = socket.channel("api:console")
const room = socket.channel("chat:lobby")
const api = genApi(channel, "api")
const chat = genApi(room, "chat")
const lost = {success: false, result: null, error: "No answer: is the gateway there?"}
const call = (via, request) => via.call(request).catch(() => lost)

function element(tag, text, attributes = {}) {
  return Object.assign(document.createElement(tag), {textContent: text, ...attributes})
}

function show(output, response, text) {
  output.dataset.outcome = response.success ? "ok" : "error"
  output.textContent = response.success ? text(response.result) : response.error
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

channel.join().receive("ok", list).receive("error", () => state("refused"))
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
  const items = []
  // Of a stream the console shows the beginning.
  const answer = response_type === "stream"
    ? await new Promise(resolve => {
        const stream = api.stream(request, item => {
          items.push(item)
          if (items.length === 5) stream.cancel()
        })
        stream.done.then(resolve, () => resolve(lost))
      })
    : await call(api, request)

  $("timing").textContent = `${(performance.now() - began).toFixed(1)} ms`
  $("timing").dataset.outcome = answer.success ? "ok" : "error"
  const node = answer.result?.node || items[0]?.node
  $("answered-by").textContent = node ? short(node) : ""
  $("response").textContent = [...items, answer].map(frame => JSON.stringify(frame, null, 2)).join("\n")
})

$("args").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("call").requestSubmit()
})

// A new version

for (const [id, release] of [["publish", "2"], ["withdraw", "1"]]) {
  $(id).addEventListener("click", async () => {
    const response = await call(api, {service: "shop", request_type: "publish", args: {release}})
    show($("quoted"), response, result => Object.entries(result).map(([node, text]) => `${short(node)}: ${text}`).join(", "))
  })
}

$("quote").addEventListener("click", async () => {
  const request = {service: "shop", request_type: "quote", args: {item: "tea", quantity: 10}}
  show($("quoted"), await call(api, request), result =>
    `${result.total} ${result.discount ? `after a discount of ${result.discount}` : "without discount"}, from ${short(result.node)}`)
})

// Rate limit

$("buy").addEventListener("click", async () => {
  const response = await call(api, {service: "shop", request_type: "buy", args: {item: "tea"}})
  show($("bought"), response, result => `Bought ${result.bought}, from ${short(result.node)}`)
  const wait = response.result?.retry_after_ms
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
let stream = null

$("start").addEventListener("click", async () => {
  prices = []
  $("start").disabled = true
  $("cancel").disabled = false
  $("stream-state").textContent = "running"
  stream = api.stream({service: "shop", request_type: "prices", args: {item: "tea"}}, price)
  const response = await stream.done.catch(() => lost)
  $("stream-state").textContent = response.success ? "ended" : response.error
  $("start").disabled = false
  $("cancel").disabled = true
})

$("cancel").addEventListener("click", () => stream.cancel())

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

room.join().receive("error", reply => { $("heard").textContent = `Not in the chat: ${reply.reason}` })

room.on("message", response => {
  const said = response.result
  if (!said?.from_user_id) return
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
  const response = await call(chat, {service: "chat", request_type: "say", args: {group_id: "lobby", message}})
  show($("heard"), response, result => `Heard by ${result.recipients_count}`)
})
