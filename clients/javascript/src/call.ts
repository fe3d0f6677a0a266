import {fromResponse, GenApiError} from "./error.js"
import type {Exchange, Receiver, Request, Response, Transport} from "./wire.js"

/** Of one call. */
export interface CallOptions {
  /** Ends the call, also on the gateway. */
  signal?: AbortSignal
  /** How long to wait: for the answer, or for a stream to begin. By default the function's own timeout and 5 s more, or 15 s. */
  timeoutMs?: number
  /** How much time the gateway has for the whole call. */
  deadlineMs?: number
  /** How often a call is repeated that was not executed, or may be executed twice. By default 2. */
  retry?: number
}

/** Of one stream. */
export interface StreamOptions extends CallOptions {
  /** How many items may be on their way or waiting for the loop, 1 to 1,000. By default 256. */
  credit?: number
}

/** What is known of a function ahead of a call. */
export interface FunctionInfo {
  readonly kind?: "stream" | "none"
  readonly timeoutMs?: number
  readonly idempotent?: boolean
}

export interface Target {
  transport: Transport
  request: Omit<Request, "request_id">
  info: FunctionInfo
}

interface Events {
  acknowledged?(stream: boolean): void
  response(response: Response): void
  accepted(): void
  failed(error: GenApiError): void
}

const randomId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("")

const notExecuted = (response: Response) => response.details?.some(detail => detail.executed === "no")

/** Sends a request, once or several times, until it is over. */
function run({transport, request, info}: Target, options: CallOptions, stream: boolean, events: Events) {
  const {signal, deadlineMs, retry = 2} = options
  const timeoutMs = options.timeoutMs ?? (deadlineMs ?? info.timeoutMs ?? 10_000) + 5_000
  const began = Date.now()
  let exchange: Exchange | undefined
  let id = ""
  let attempts = 0
  let begun = false
  let mayHaveRun = false
  let over = false
  let timer: any
  let pause: any

  const end = () => {
    over = true
    clearTimeout(timer)
    clearTimeout(pause)
    signal?.removeEventListener("abort", abort)
  }
  const fail = (error: GenApiError) => {
    end()
    events.failed(error)
  }
  const stop = (code: string, message: string, cause?: unknown) => {
    if (over) return
    const executed = mayHaveRun || exchange?.sent ? "unknown" : "no"
    exchange?.cancel()
    fail(new GenApiError(code, message, id, [{executed}], executed === "no", cause))
  }
  const abort = () => stop("cancelled", "Request cancelled", signal!.reason)
  const again = () => {
    pause = setTimeout(open, Math.min(100 * 2 ** attempts++, 5_000) * (0.5 + Math.random()))
  }

  // From here on a stream takes its time, and is not sent again.
  const begin = () => {
    if (!stream) return
    begun = true
    clearTimeout(timer)
  }

  const receiver: Receiver = {
    accepted() {
      end()
      events.accepted()
    },
    acknowledged(of) {
      begin()
      events.acknowledged?.(of)
    },
    response(response) {
      if (over) return
      if (response.success) {
        begin()
        if (!response.has_more) end()
        events.response(response)
      } else if (!begun && response.can_retry && notExecuted(response) && attempts < retry) again()
      else fail(fromResponse(response))
    },
    lost(when, cause) {
      if (over) return
      mayHaveRun ||= exchange!.sent
      const repeatable = !stream && info.idempotent && retry > 0
      if (repeatable && when === "now") open()
      else if (repeatable && when === "later" && attempts < retry) again()
      else if (stream || !mayHaveRun) fail(new GenApiError("disconnected", "Disconnected", id, [], true, cause))
      else fail(new GenApiError("unknown", "The answer is lost", id, [{executed: "unknown"}], false, cause))
    }
  }

  const open = () => {
    id = randomId()
    const left = deadlineMs && {deadline_ms: Math.max(1, deadlineMs - (Date.now() - began))}
    exchange = transport.open({...request, ...left, request_id: id}, timeoutMs, receiver)
  }

  if (timeoutMs < 2 ** 31) timer = setTimeout(stop, timeoutMs, "timeout", `No answer within ${timeoutMs} ms`)
  if (signal?.aborted) queueMicrotask(abort)
  else {
    signal?.addEventListener("abort", abort)
    open()
  }
  return {
    stop,
    grant: (credit: number) => exchange!.grant(credit)
  }
}

/** One answer. */
export function call(target: Target, options: CallOptions = {}): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const running = run(target, options, false, {
      acknowledged(stream) {
        if (stream) running.stop("stream", `${target.request.request_type} is a stream: use for await`)
      },
      response: response => resolve(response.result),
      accepted: () => resolve(undefined),
      failed: reject
    })
  })
}

/** Any number of items, asked for as they are taken. The request goes out with the first `next()`. */
export function stream(target: Target, options: StreamOptions = {}): AsyncIterableIterator<unknown> {
  const {credit = 256} = options
  const items: unknown[] = []
  const waiting: {resolve(result: IteratorResult<unknown>): void; reject(error: unknown): void}[] = []
  let running: ReturnType<typeof run> | undefined
  let over = false
  let error: GenApiError | undefined
  let taken = 0

  const finish = (failure?: GenApiError) => {
    over = true
    error = failure
    for (const {resolve, reject} of waiting.splice(0)) {
      if (error) reject(error)
      else resolve({done: true, value: undefined})
      error = undefined
    }
  }

  const took = () => {
    if (++taken * 2 >= credit && !over) {
      running!.grant(taken)
      taken = 0
    }
  }

  const put = (value: unknown) => {
    const next = waiting.shift()
    if (!next) items.push(value)
    else {
      took()
      next.resolve({done: false, value})
    }
  }

  const start = () =>
    run({...target, request: {...target.request, credit}}, options, true, {
      response(response) {
        // The end frame has no item.
        if (response.has_more || response.result !== null) put(response.result)
        if (!response.has_more) finish()
      },
      accepted: () => finish(),
      failed: finish
    })

  return {
    [Symbol.asyncIterator]() {
      return this
    },
    async next() {
      if (!over) running ??= start()
      if (items.length > 0) {
        took()
        return {done: false, value: items.shift()}
      }
      if (!over) return new Promise((resolve, reject) => waiting.push({resolve, reject}))
      const failure = error
      error = undefined
      if (failure) throw failure
      return {done: true, value: undefined}
    },
    async return(value) {
      if (!over) {
        over = true
        items.length = 0
        running?.stop("cancelled", "Request cancelled")
        finish()
      }
      return {done: true, value}
    }
  }
}
