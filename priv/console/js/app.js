// The page as a whole.

const RETRY_MS = 2000

const state = {identity: null, entry: null, service: null, version: null, root: {}, controller: null}
const answer = new Answer()
const form = new ArgumentForm($("fields"), () => writeJson())
const list = new FunctionList((service, entry) => {
  location.hash = hashOf(service, entry.request_type, null)
  closeMenu()
  $("main").focus({preventScroll: true})
})

function hashOf(service, type, version) {
  const path = [service, type, version].filter(Boolean).map(encodeURIComponent).join("/")
  return `#/${path}`
}

// Functions

async function load() {
  clearTimeout(state.timer)
  try {
    const {contract, identity, editable} = await loadDescription()
    connection(true)
    state.editable = editable
    if (state.identity === null) state.identity = remembered() || identity
    identityButton()
    if (JSON.stringify(contract) !== JSON.stringify(state.contract)) {
      state.contract = contract
      list.load(contract.services)
      route()
    }
    welcome()
  } catch (error) {
    connection(false, error)
    state.timer = setTimeout(load, RETRY_MS)
  }
}

function connection(up, error) {
  $("connection").className = `connection ${up ? "up" : "down"}`
  const text = up ? "Connected" : error.status ? `Refused (${error.status})` : "Gateway unreachable"
  // Not said again and again.
  if ($("connection-text").textContent !== text) $("connection-text").textContent = text
  if (up) return show($("banner"), false)
  const sentence = error.status
    ? `The gateway refuses to describe its functions: ${error.message}`
    : "The gateway does not answer. This page tries again until it does."
  if ($("banner").hidden || $("banner").textContent !== sentence) $("banner").textContent = sentence
  show($("banner"), true)
}

function welcome() {
  const functions = state.contract.services.flatMap(({functions}) => functions)
  show($("empty"), !state.entry)
  if (state.entry) return
  if (functions.length === 0)
    fill($("empty"), el("h2", {text: "No functions yet"}),
      el("p", {text: "This gateway has no function that you may call. Start a service, or add one in IEx:"}),
      el("p", {}, el("code", {text: "PhoenixGenApi.ConfigDb.add(%FunConfig{…})"})))
  else if (location.hash.length > 2)
    fill($("empty"), el("h2", {text: "No such function"}), el("p", {text: "It may have been removed, or is not for you. Choose another one."}))
  else
    fill($("empty"), el("h2", {text: "Choose a function"}), el("p", {text: "Search with /, move with the arrow keys, call with Ctrl+Enter."}))
}

function route() {
  const [service, type, version] = location.hash.slice(2).split("/").map(part => { try { return decodeURIComponent(part) } catch { return part } })
  const entry = state.contract?.services.find(each => each.service === service)?.functions.find(each => each.request_type === type)
  if (!entry) {
    state.entry = null
    show($("function"), false)
    list.select(null)
    if (state.contract) welcome()
    return
  }
  const shown = versionOf(entry, version)
  const same = state.service === service && state.entry?.request_type === type && state.version?.version === shown.version
  const changed = !same || JSON.stringify(state.version.args) !== JSON.stringify(shown.args)
  Object.assign(state, {service, entry, version: shown})
  describe()
  if (changed) {
    stop()
    answer.clear()
    state.root = initialObject(shown.args)
    form.load(shown.args, state.root)
    problems([])
    writeJson()
  }
  show($("empty"), false)
  show($("function"), true)
  list.select(`${service}/${type}`)
}

function describe() {
  const {service, entry, version} = state
  document.title = `${service} ${entry.request_type} · phoenix_gen_api`
  fill($("name"), el("span", {class: "of", text: `${service} / `}), entry.request_type)
  fill($("version"), ...entry.versions.map(each => el("option", {value: each.version,
    text: each.version + (each.version === entry.default_version ? " (default)" : ""), selected: each === version})))
  $("version").value = version.version
  show($("version-label"), entry.versions.length > 1 || version.version !== "0.0.0")
  const {kind, roles, arg} = version.permission
  const permissions = {public: "public", authenticated: "for users", custom: "permission by a callback",
    roles: `for roles: ${(roles || []).join(", ")}`, owner: `only with your own id as ${arg}`}
  const kinds = {sync: "one result", async: "asynchronous", stream: "stream", none: "no result"}
  const facts = [kinds[version.response_type], permissions[kind],
    version.timeout_ms ? `timeout ${milliseconds(version.timeout_ms)}` : "no timeout",
    version.idempotent ? "safe to repeat" : null, ...(version.tags || [])]
  fill($("facts"), ...facts.filter(Boolean).map(text => el("li", {text})))
  const sentence = typeof version.deprecated === "string" ? version.deprecated : "Do not use it in new code."
  $("deprecated").textContent = version.deprecated ? `Deprecated. ${sentence}` : ""
  show($("deprecated"), Boolean(version.deprecated))
  $("doc").textContent = version.doc || ""
  show($("doc"), Boolean(version.doc))
  $("args-schema").textContent = pretty(version.args)
  $("result-schema").textContent = version.result ? pretty(version.result) : "not described"
}

// Arguments: the form and the text are two views of the same values. The text is what is sent.

function writeJson() {
  $("json").value = pretty(state.root)
  grow()
  jsonError(null)
}

// As high as its text, within reason.
function grow() {
  const lines = $("json").value.split("\n").length
  $("json").rows = Math.min(Math.max(lines + 1, 8), 30)
}

function jsonError(sentence) {
  $("json-error").textContent = sentence || ""
  show($("json-error"), Boolean(sentence))
  if (sentence) $("json").setAttribute("aria-invalid", "true")
  else $("json").removeAttribute("aria-invalid")
}

function readJson() {
  try {
    const value = $("json").value.trim() === "" ? {} : parse($("json").value)
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("the arguments are an object")
    jsonError(null)
    return value
  } catch (error) {
    jsonError(`No valid JSON: ${error.message}`)
    return null
  }
}

function problems(placed) {
  const above = placed.filter(each => !each.placed)
  fill($("problems"), ...(above.length ? [el("ul", {}, ...above.map(({path, sentence}) =>
    el("li", {text: `${path || "The arguments"} ${sentence}`})))] : []))
  show($("problems"), above.length > 0)
}

// Calls

function call() {
  const {entry, version, service} = state
  return {service, type: entry.request_type, version: version.version === entry.default_version ? null : version.version,
    id: ascii($("request-id").value.trim()), deadline: $("deadline").value.trim(),
    stream: version.response_type === "stream", body: $("json").value.trim() || "{}"}
}

const identity = () => (state.editable ? state.identity : null)

async function run() {
  if (state.controller) return
  form.clear()
  problems([])
  if (!readJson()) {
    choosePane("json")
    return $("json").focus()
  }
  const request = call()
  const controller = (state.controller = new AbortController())
  running(true)
  answer.begin(request.stream)
  let response
  let streams = false
  try {
    const text = await send(request, identity(), controller.signal,
      (head, isStream) => { response = head; streams = isStream; if (isStream) answer.streaming(head) },
      (frame, size) => { if (state.controller === controller) answer.frame(frame, size) })
    if (state.controller !== controller) return
    connection(true)
    if (streams) answer.finish(answer.count > 0 && !answer.last.has_more ? "over" : "torn")
    else failures(answer.whole(response, text))
  } catch (error) {
    if (state.controller !== controller) return
    if (controller.signal.aborted) streams ? answer.finish("cancelled") : answer.cancelled()
    else if (streams) { answer.finish("torn"); load() }
    else { answer.unreachable(error); load() }
  } finally {
    if (state.controller === controller) { state.controller = null; running(false) }
  }
}

function failures(body) {
  if (body?.code !== "invalid_arguments" || !Array.isArray(body.details)) return
  const placed = form.problems(body.details)
  problems(placed)
  const first = placed.find(each => each.placed)
  if (first && !$("pane-form").classList.contains("behind")) form.control(first.path)?.focus()
}

function running(yes) {
  $("send").disabled = yes
  // The focus must not be lost with the button that had it.
  if (!yes && document.activeElement === $("cancel")) $("send").focus()
  show($("cancel"), yes)
}

function stop() {
  const {controller} = state
  if (!controller) return
  state.controller = null
  running(false)
  controller.abort()
}

// Identity

function remembered() {
  try { return JSON.parse(sessionStorage.getItem("identity")) } catch { return null }
}

function identityButton() {
  const {user_id: user, user_roles: roles} = state.identity || {}
  $("identity").textContent = user ? `${user}${roles?.length ? ` (${roles.join(", ")})` : ""}` : "Anonymous"
  $("identity").setAttribute("aria-label", `Who is calling: ${$("identity").textContent}`)
}

function openIdentity() {
  const {user_id: user, user_roles: roles} = state.identity || {}
  $("who-user").value = user || ""
  $("who-roles").value = (roles || []).join(", ")
  for (const id of ["who-user", "who-roles"]) $(id).readOnly = !state.editable
  show($("who-save"), Boolean(state.editable))
  $("who-note").textContent = state.editable
    ? "Requests of this page are made as this user. Only this development server believes it."
    : "The application has found out who you are. This page cannot change it."
  $("who").showModal()
}

function closeIdentity() {
  if ($("who").returnValue !== "save" || !state.editable) return
  const roles = $("who-roles").value.split(",").map(role => role.trim()).filter(Boolean)
  state.identity = {user_id: $("who-user").value.trim() || null, user_roles: roles}
  try { sessionStorage.setItem("identity", JSON.stringify(state.identity)) } catch { /* not kept then */ }
  identityButton()
}

// The rest

async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text)
    $("copied").textContent = done
  } catch {
    $("copied").textContent = "The browser does not let this page copy."
  }
  clearTimeout(state.copied)
  state.copied = setTimeout(() => { $("copied").textContent = "" }, 4000)
}

function choosePane(name) {
  for (const each of ["form", "json"]) {
    const chosen = each === name
    $(`pane-${each}`).classList.toggle("behind", !chosen)
    $(`tab-${each}`).setAttribute("aria-selected", String(chosen))
    $(`tab-${each}`).tabIndex = chosen ? 0 : -1
  }
}

function closeMenu() {
  $("functions").classList.remove("open")
  $("menu").setAttribute("aria-expanded", "false")
}

$("call").addEventListener("submit", event => { event.preventDefault(); run() })
$("cancel").addEventListener("click", () => state.controller?.abort())
$("json").addEventListener("input", () => {
  grow()
  const value = readJson()
  if (!value) return
  state.root = value
  form.load(state.version.args, value)
})
$("copy-curl").addEventListener("click", () => copy(asCurl(call(), identity()), "Copied as curl"))
$("copy-js").addEventListener("click", () => copy(asJavaScript(call(), identity()), "Copied as JavaScript"))
$("version").addEventListener("change", () => { location.hash = hashOf(state.service, state.entry.request_type, $("version").value) })
$("reload").addEventListener("click", load)
$("identity").addEventListener("click", openIdentity)
$("who").addEventListener("close", closeIdentity)
$("menu").addEventListener("click", () => {
  const open = $("functions").classList.toggle("open")
  $("menu").setAttribute("aria-expanded", String(open))
  if (open) $("search").focus()
})
for (const name of ["form", "json"]) {
  $(`tab-${name}`).addEventListener("click", () => choosePane(name))
  $(`tab-${name}`).addEventListener("keydown", event => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return
    const other = name === "form" ? "json" : "form"
    choosePane(other)
    $(`tab-${other}`).focus()
  })
}
document.addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && state.entry) { event.preventDefault(); run() }
  if (event.key === "/" && !event.target.closest("input, textarea, select, dialog")) {
    event.preventDefault()
    $("functions").classList.add("open")
    $("menu").setAttribute("aria-expanded", "true")
    $("search").focus()
  }
})
window.addEventListener("hashchange", route)
window.addEventListener("focus", load)
load()
