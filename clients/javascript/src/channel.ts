import type {Exchange, Receiver, RelayMessage, Request, Response, Transport} from "./wire.js"

/** What is needed of a push of phoenix.js. */
export interface PushLike {
  receive(status: string, callback: (response: any) => any): PushLike
}

/** What is needed of a channel of phoenix.js. */
export interface ChannelLike {
  join(): PushLike
  leave(): unknown
  push(event: string, payload: object, timeout?: number): PushLike
  on(event: string, callback: (payload: any) => void): unknown
  onClose(callback: (reason?: any) => void): unknown
  onError(callback: (reason?: any) => void): unknown
}

/** What is needed of a socket of phoenix.js. */
export interface SocketLike {
  channel(topic: string, params?: object): ChannelLike
}

export type ChannelOptions = ChannelEvents & (ChannelOfSocket | {
  /** A channel, joined or not. */
  channel: ChannelLike
})

export interface ChannelOfSocket {
  /** A socket, connected or about to be. */
  socket: SocketLike
  topic: string
  /** Of the join. */
  params?: object
}

export interface ChannelEvents {
  /** The event of `use PhoenixGenApi`; `"phoenix_gen_api"` if it names none. */
  event?: string
  /** The event of group messages, if it is another one. */
  relayEvent?: string
}

interface Entry extends Exchange {
  request: Request
  sent: boolean
  acknowledged: boolean
  timeoutMs: number
  receiver: Receiver
}

export function channelTransport(options: ChannelOptions): Transport {
  const {event = "phoenix_gen_api", relayEvent = event} = options
  const channel: any = "channel" in options ? options.channel : options.socket.channel(options.topic, options.params ?? {})
  const entries = new Map<string, Entry>()
  const listeners = new Set<(message: RelayMessage) => void>()
  let joined = false
  let closed = false

  const take = (entry: Entry) => entries.delete(entry.request.request_id)

  // phoenix.js keeps what it cannot send, and may send it when nobody waits for it any more. Here a request waits
  // until the channel has joined.
  const send = (entry: Entry) => {
    entry.sent = true
    channel
      .push(event, entry.request, entry.timeoutMs)
      .receive("ok", (reply: any) => replied(entry, reply))
      .receive("error", (reply: any) => replied(entry, reply))
  }

  const ready = () => joined && channel.canPush?.() !== false

  const replied = (entry: Entry, reply: any) => {
    if (entries.get(entry.request.request_id) !== entry) return
    if (typeof reply?.success === "boolean") {
      if (reply.success && reply.async) {
        entry.acknowledged = true
        entry.receiver.acknowledged(reply.has_more)
      } else {
        take(entry)
        entry.receiver.response(reply)
      }
    } else {
      take(entry)
      // Either the receipt of a request without an answer, or the topic is unknown to a server that has restarted.
      if (reply && "request_id" in reply) entry.receiver.accepted()
      else entry.receiver.lost("now", reply)
    }
  }

  const received = (response: Response) => {
    const entry = entries.get(response.request_id!)
    const message = response.result as RelayMessage | null
    const relayed = message?.from_user_id && "group_id" in message
    // The sender's own copy of a group message has the id of its request.
    if (entry && (entry.acknowledged || !relayed)) {
      if (!response.has_more) take(entry)
      entry.receiver.response(response)
    } else if (relayed) for (const listener of listeners) queueMicrotask(() => listener(message))
  }

  const lost = (again: "now" | "never", cause?: unknown) => {
    joined = false
    for (const entry of [...entries.values()]) {
      if (entry.sent || closed) {
        take(entry)
        entry.receiver.lost(again, cause)
      }
    }
  }

  for (const name of new Set([event, relayEvent])) channel.on(name, received)
  channel.onError((reason: unknown) => lost("now", reason))
  channel.onClose((reason: unknown) => {
    closed = true
    lost("never", reason)
  })
  // With phoenix.js this is called after every join.
  const join = channel.joinPush && channel.state !== "closed" ? channel.joinPush : channel.join()
  join.receive("ok", () => {
    joined = true
    for (const entry of [...entries.values()]) if (!entry.sent) send(entry)
  })

  return {
    open(request, timeoutMs, receiver) {
      const id = request.request_id
      const grant = (credit: number) => {
        if (entries.has(id) && joined)
          channel
            .push(event, {request_id: id, credit})
            // Too many at a time.
            .receive("error", () => setTimeout(grant, 100, credit))
      }
      const entry: Entry = {
        request,
        receiver,
        timeoutMs,
        sent: false,
        acknowledged: false,
        grant,
        cancel() {
          if (take(entry) && entry.sent && joined) channel.push(event, {request_id: id, cancel: true})
        }
      }
      if (closed) queueMicrotask(() => receiver.lost("never"))
      else {
        entries.set(id, entry)
        if (ready()) send(entry)
      }
      return entry
    },
    relay(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      channel.leave()
    }
  }
}
