import {Socket} from "phoenix"
import WebSocket from "ws"
import {connect} from "../../dist/index.js"
import {Gateway} from "./gateway.mjs"

/** A gateway, and a client of it. Both end with the test. */
export async function started(t, functions, options = {}) {
  const gateway = await new Gateway(functions).start()
  const socket = new Socket(gateway.url, {
    transport: WebSocket,
    reconnectAfterMs: () => 1,
    rejoinAfterMs: () => 1
  })
  socket.connect()
  const channel = socket.channel("api:lobby")
  const api = connect({channel, event: "api", ...options})
  t.after(async () => {
    channel.leave()
    socket.disconnect()
    await gateway.stop()
  })
  return {gateway, socket, channel, api}
}

/** A promise, with what settles it. */
export function deferred() {
  let resolve, reject
  const promise = new Promise((...both) => ([resolve, reject] = both))
  return {promise, resolve, reject}
}

/** The error of a promise that fails. */
export const failed = promise =>
  promise.then(
    value => {
      throw new Error(`did not fail: ${JSON.stringify(value)}`)
    },
    error => error
  )
