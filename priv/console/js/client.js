// Requests to the gateway that has served this page.

const base = location.pathname.replace(/\/+$/, "")

function target(service, type) {
  return `${base}/${encodeURIComponent(service)}/${encodeURIComponent(type)}`
}

function headersOf(call, identity) {
  const headers = {"content-type": "application/json"}
  if (call.version) headers["accept-version"] = call.version
  if (call.id) headers["x-request-id"] = call.id
  if (call.deadline) headers["x-deadline-ms"] = call.deadline
  if (identity) headers["x-gen-api-identity"] = ascii(JSON.stringify(identity))
  if (call.stream) headers.accept = "text/event-stream"
  return headers
}

// Headers hold no other characters; JSON can name them.
const ascii = text => text.replace(/[^\x20-\x7e]/g, char => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)

async function loadDescription() {
  const answer = await fetch(`${base}/console.json`, {cache: "no-store"})
  const body = await answer.json()
  if (!answer.ok) throw Object.assign(new Error(body.error || answer.statusText), {status: answer.status})
  return body
}

// Calls a function: `onhead(status, headers)`, then `onframe(frame)` for each of a stream, or the text of the answer.
async function send(call, identity, signal, onhead, onframe) {
  const answer = await fetch(target(call.service, call.type), {
    method: "POST", headers: headersOf(call, identity), body: call.body, signal,
  })
  const streams = (answer.headers.get("content-type") || "").startsWith("text/event-stream")
  onhead(answer, streams)
  if (!streams) return answer.text()
  await events(answer.body, onframe)
  return null
}

async function events(stream, onframe) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader()
  let text = ""
  for (;;) {
    const {done, value} = await reader.read()
    if (done) return
    text += value
    const blocks = text.split("\n\n")
    text = blocks.pop()
    for (const block of blocks) {
      const data = block.split("\n").filter(line => line.startsWith("data: ")).map(line => line.slice(6)).join("\n")
      if (data) onframe(parse(data), data.length)
    }
  }
}

// The same call for other places.

const shell = text => `'${text.replace(/'/g, `'\\''`)}'`

function asCurl(call, identity) {
  const headers = Object.entries(headersOf(call, identity)).map(([name, value]) => `-H ${shell(`${name}: ${value}`)}`)
  return [`curl ${call.stream ? "-N " : ""}${shell(location.origin + target(call.service, call.type))}`, ...headers, `-d ${shell(call.body)}`].join(" \\\n  ")
}

// With the client of the library.
function asJavaScript(call, identity) {
  const member = name => /^[A-Za-z_$][\w$]*$/.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`
  const service = `api${member(call.service)}${call.version ? `.v(${JSON.stringify(call.version)})` : ""}`
  const options = call.deadline ? `, {deadlineMs: ${Number(call.deadline)}}` : ""
  const invocation = `${service}${member(call.type)}(${call.body.trim()}${options})`
  const headers = identity ? `, headers: ${pretty({"x-gen-api-identity": ascii(JSON.stringify(identity))})}` : ""
  return [
    `import {connect} from "phoenix-gen-api"`,
    ``,
    `const api = connect({url: ${JSON.stringify(location.origin + base)}${headers}})`,
    call.stream
      ? `for await (const item of ${invocation}) console.log(item)`
      : `console.log(await ${invocation})`,
  ].join("\n")
}
