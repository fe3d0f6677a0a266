import type {Request, Response, Transport} from "./wire.js"

export interface HttpOptions {
  /** Where the gateway's plug is mounted, for example `"/gen_api"`. */
  url: string
  /** Headers of every request, or what makes them. */
  headers?: HeadersInit | (() => HeadersInit)
  /** Further options of `fetch`, such as `credentials`. */
  init?: RequestInit
  /** Instead of the global one. */
  fetch?: typeof fetch
}

const json = "application/json"
const sse = "text/event-stream"

export function httpTransport(options: HttpOptions): Transport {
  const open = new Set<() => void>()
  const call = options.fetch ?? fetch

  const send = (request: Request, signal: AbortSignal) => {
    const headers = new Headers(typeof options.headers === "function" ? options.headers() : options.headers)
    const set = (name: string, value: unknown) => value != null && headers.set(name, `${value}`)
    set("content-type", json)
    set("accept", request.credit ? `${sse}, ${json}` : json)
    set("x-request-id", request.request_id)
    set("accept-version", request.version)
    set("x-deadline-ms", request.deadline_ms)
    const path = [request.service, request.request_type].map(encodeURIComponent).join("/")
    const body = JSON.stringify(request.args)
    return call(`${options.url.replace(/\/$/, "")}/${path}`, {...options.init, method: "POST", headers, body, signal})
  }

  return {
    open(request, _timeoutMs, receiver) {
      const abort = new AbortController()
      let over = false
      let credit = request.credit ?? 0
      let granted = () => {}
      const end = () => {
        over = true
        open.delete(close)
        abort.abort()
      }
      const lost = (cause?: unknown, again: "later" | "never" = "later") => {
        if (!over) {
          end()
          receiver.lost(again, cause)
        }
      }
      const close = () => lost(undefined, "never")
      const receive = (response: Response) => {
        if (over) return
        if (!response.has_more) end()
        receiver.response(response)
      }

      // Reads as fast as frames are wanted: what is not read waits with the gateway.
      const frames = async (body: ReadableStream<Uint8Array>) => {
        const reader = body.getReader()
        const decoder = new TextDecoder()
        let text = ""
        while (!over) {
          const {done, value} = await reader.read()
          if (done) return lost()
          text += decoder.decode(value, {stream: true}).replaceAll("\r", "")
          const events = text.split("\n\n")
          text = events.pop()!
          for (const event of events) {
            const data = event.split("\n").filter(line => line.startsWith("data:"))
            if (data.length === 0) continue
            while (credit <= 0 && !over) await new Promise<void>(resolve => (granted = resolve))
            credit--
            receive(JSON.parse(data.map(line => line.slice(5)).join("\n")))
          }
        }
      }

      const run = async () => {
        const answer = await send(request, abort.signal)
        const type = answer.headers.get("content-type") ?? ""
        if (answer.status === 202) {
          end()
          receiver.accepted()
        } else if (type.startsWith(sse)) {
          receiver.acknowledged(true)
          await frames(answer.body!)
        } else if (type.startsWith(json)) {
          receive({...(await answer.json()), has_more: false})
        } else {
          if (type.includes("ndjson")) receiver.acknowledged(true)
          lost(new Error(`HTTP status ${answer.status}, ${type}`))
        }
      }

      open.add(close)
      run().catch(cause => lost(cause))
      return {
        sent: true,
        cancel: () => {
          end()
          granted()
        },
        grant(more) {
          credit += more
          granted()
        }
      }
    },
    relay() {
      throw new TypeError("group messages need a channel")
    },
    close() {
      for (const close of [...open]) close()
    }
  }
}
