import {call, stream, type CallOptions, type FunctionInfo, type StreamOptions, type Target} from "./call.js"
import {channelTransport, type ChannelLike, type ChannelOptions, type PushLike, type SocketLike} from "./channel.js"
import {GenApiError} from "./error.js"
import {httpTransport, type HttpOptions} from "./http.js"
import type {Detail, Exchange, Receiver, RelayMessage, Request, Response, Transport} from "./wire.js"

export {GenApiError}
export type {CallOptions, StreamOptions, FunctionInfo, Detail, RelayMessage}
export type {ChannelOptions, ChannelLike, PushLike, SocketLike, HttpOptions}
export type {Transport, Exchange, Receiver, Request, Response}

/** What the generated file says of each function: by service, and by `name` or `name@version`. */
export type Functions = {readonly [service: string]: {readonly [name: string]: FunctionInfo}}

export interface Options {
  /** The constant of the generated file. Without it functions have no timeouts of their own, and none is repeated that may have run. */
  functions?: Functions
}

/** The services of a gateway, and the messages of its groups. */
export type Client<Api> = Api & {
  relay: {
    /** Calls the listener with every message of the user's groups; returns what ends that. */
    on(listener: (message: RelayMessage) => void): () => void
  }
}

const transports = new WeakMap<object, Transport>()

/** Connects with a gateway, over a channel, over HTTP, or by a transport of one's own. */
export function connect<Api extends object>(
  options: Options & (ChannelOptions | HttpOptions | {transport: Transport})
): Client<Api> {
  const transport =
    "transport" in options
      ? options.transport
      : "url" in options
        ? httpTransport(options)
        : channelTransport(options)
  const api = members(service => {
    const on = service === "relay" ? transport.relay : undefined
    const functions = (version?: string) =>
      members(name => {
        if (version === undefined && name === "v") return functions
        if (version === undefined && name === "on" && on) return on
        const info = options.functions?.[service]?.[version ? `${name}@${version}` : name]
        return (args: object = {}, options?: StreamOptions) =>
          invoke(
            {transport, info: info ?? {}, request: {service, request_type: name, args, ...(version && {version})}},
            options,
            !info
          )
      })
    return functions()
  })
  transports.set(api, transport)
  return api as Client<Api>
}

/** Leaves the channel, or ends the requests over HTTP. Unfinished calls fail. */
export function close(api: object): void {
  transports.get(api)?.close()
}

function invoke(target: Target, options: StreamOptions | undefined, unknown: boolean) {
  if (target.info.kind === "stream") return stream(target, options)
  if (!unknown) return call(target, options)

  // Nothing says whether it is a stream. One is iterated before anything else happens.
  let state: "new" | "call" | "stream" = "new"
  const answer = Promise.resolve().then(() => {
    if (state === "stream") return undefined
    state = "call"
    return call(target, options)
  })
  return Object.assign(answer, {
    [Symbol.asyncIterator]() {
      if (state === "call") throw new TypeError("iterate a stream at once, or give `functions` to connect()")
      state = "stream"
      return stream(target, options)
    }
  })
}

/** An object whose members are made when they are first looked at. */
function members(make: (name: string) => unknown): object {
  return new Proxy(Object.create(null), {
    get(made, name) {
      // An object with `then` would be taken for a promise.
      if (typeof name !== "string" || name === "then") return undefined
      return (made[name] ??= make(name))
    }
  })
}
