// A gateway that speaks version 2 of Phoenix's protocol, over WebSocket, and does what a test says: it
// disconnects, restarts, delays and reorders.
import {EventEmitter, once} from "node:events"
import {WebSocketServer} from "ws"

const response = (request_id, fields) => ({
  request_id, success: true, result: null, error: null, async: false, has_more: false, can_retry: false, ...fields
})

const failure = (id, code, fields = {}) => response(id, {success: false, error: code, code, details: null, ...fields})

export class Gateway extends EventEmitter {
  /** `functions`: name => {kind, run}. `run(args, call)` returns a value, or an async iterable for a stream. */
  constructor(functions) {
    super()
    this.setMaxListeners(0)
    this.functions = functions
    this.port = 0
    this.joins = 0
    this.connections = new Set()
    /** Changes what is sent to the client, or when: `(send, frame) => send(frame)`. */
    this.deliver = (send, frame) => send(frame)
    this.refuseJoins = false
  }

  async start() {
    this.server = new WebSocketServer({port: this.port, host: "127.0.0.1"})
    this.server.on("connection", socket => this.#connected(socket))
    await once(this.server, "listening")
    this.port = this.server.address().port
    return this
  }

  get url() {
    return `ws://127.0.0.1:${this.port}/socket`
  }

  /** Cuts every connection, without a word. */
  disconnect() {
    for (const connection of this.connections) connection.socket.terminate()
  }

  async stop() {
    this.disconnect()
    await new Promise(resolve => this.server.close(resolve))
  }

  async restart() {
    await this.stop()
    await this.start()
  }

  /** Waits for an event that meets a condition. */
  async seen(event, condition = () => true) {
    for (;;) {
      const [value] = await once(this, event)
      if (condition(value)) return value
    }
  }

  /** A message of a group to every client. */
  relay(message, id = "somebody-else") {
    for (const connection of this.connections)
      for (const topic of connection.topics.keys())
        connection.push(topic, "api", response(id, {result: message}))
  }

  /** The server ends a channel: `phx_close`, or `phx_error` when it has crashed. */
  endChannels(event) {
    for (const connection of this.connections)
      for (const [topic, joinRef] of connection.topics) {
        connection.end()
        connection.topics.delete(topic)
        connection.send([joinRef, joinRef, topic, event, {}])
      }
  }

  #connected(socket) {
    const connection = {
      socket,
      topics: new Map(),
      calls: new Map(),
      end: () => {
        const calls = [...connection.calls.values()]
        connection.calls.clear()
        for (const call of calls) {
          call.abort.abort()
          call.granted()
        }
      },
      send: frame => this.deliver(frame => socket.readyState === 1 && socket.send(JSON.stringify(frame)), frame),
      reply: (joinRef, ref, topic, status, payload) =>
        connection.send([joinRef, ref, topic, "phx_reply", {status, response: payload}]),
      push: (topic, event, payload) => connection.send([connection.topics.get(topic), null, topic, event, payload])
    }
    this.connections.add(connection)
    socket.on("error", () => {})
    socket.on("close", () => {
      connection.end()
      this.connections.delete(connection)
    })
    socket.on("message", text => this.#received(connection, JSON.parse(text)))
  }

  #received(connection, [joinRef, ref, topic, event, payload]) {
    const reply = (status, payload) => connection.reply(joinRef, ref, topic, status, payload)
    if (topic === "phoenix") return reply("ok", {})
    if (event === "phx_join") {
      if (this.refuseJoins) return reply("error", {reason: "not yet"})
      connection.topics.set(topic, joinRef)
      this.joins++
      reply("ok", {})
      return this.emit("join", topic)
    }
    if (!connection.topics.has(topic)) return reply("error", {reason: "unmatched topic"})
    if (event === "phx_leave") {
      connection.end()
      connection.topics.delete(topic)
      reply("ok", {})
      return connection.send([joinRef, ref, topic, "phx_close", {}])
    }
    if (payload.cancel) return this.#cancel(connection, payload, reply)
    if (payload.credit && !payload.service) return this.#grant(connection, payload, reply)
    this.emit("request", payload)
    return this.#request(connection, topic, payload, reply)
  }

  #cancel(connection, {request_id}, reply) {
    const call = connection.calls.get(request_id)
    connection.calls.delete(request_id)
    call?.abort.abort()
    call?.granted()
    reply("ok", {request_id, cancelled: call !== undefined})
    if (call && call.kind === undefined) call.reply("error", failure(request_id, "cancelled"))
    if (call?.kind === "stream") call.push(response(request_id, {async: true}))
    this.emit("cancel", request_id)
  }

  #grant(connection, {request_id, credit}, reply) {
    reply("ok", {request_id})
    const call = connection.calls.get(request_id)
    if (call) {
      call.credit += credit
      call.granted()
    }
    this.emit("credit", {request_id, credit})
  }

  async #request(connection, topic, payload, reply) {
    const {request_id: id, request_type: name, args} = payload
    const known = this.functions[name]
    if (!known) return reply("error", failure(id, "unknown_function"))
    const {kind, run} = known
    const abort = new AbortController()
    const call = {
      id, kind, abort, reply, request: payload,
      credit: payload.credit ?? Infinity,
      granted: () => {},
      signal: abort.signal,
      fail: (code, fields) => failure(id, code, fields),
      push: frame => connection.push(topic, "api", frame)
    }
    connection.calls.set(id, call)
    const over = () => !connection.calls.delete(id)
    if (kind === "none") {
      over()
      await run(args, call)
      return reply("ok", {request_id: id})
    }
    let result
    try {
      result = await run(args, call)
    } catch (error) {
      if (!over()) reply("error", error)
      return
    }
    if (kind === "stream") return this.#stream(connection, call, result)
    if (kind === "async") {
      if (!connection.calls.has(id)) return
      reply("ok", response(id, {async: true}))
      const later = await result()
      if (!over()) call.push(response(id, {result: later}))
      return
    }
    if (!over()) reply("ok", response(id, {result}))
  }

  async #stream(connection, call, items) {
    const {id} = call
    call.reply("ok", response(id, {async: true, has_more: true, result: "init"}))
    const running = () => connection.calls.has(id)
    try {
      for await (const item of items) {
        // What the client has sent comes in between.
        await new Promise(setImmediate)
        while (call.credit <= 0 && running()) await new Promise(resolve => (call.granted = resolve))
        if (!running()) return
        call.credit--
        call.push(response(id, {async: true, has_more: true, result: item}))
      }
    } catch (error) {
      if (connection.calls.delete(id)) call.push(error)
      return
    }
    if (connection.calls.delete(id)) call.push(response(id, {async: true}))
  }
}
