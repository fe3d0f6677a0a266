/** A request as it goes to the gateway. */
export interface Request {
  request_id: string
  service: string
  request_type: string
  args: object
  version?: string
  deadline_ms?: number
  /** Of a stream: how many items the gateway may send. */
  credit?: number
}

/** An answer of the gateway, or a frame of a stream. */
export interface Response {
  request_id: string | null
  success: boolean
  result: unknown
  error: string | null
  async: boolean
  has_more: boolean
  can_retry: boolean
  code?: string
  details?: Detail[] | null
}

/** What helps with an error: a problem of the arguments, when to come back, whether the function was executed. */
export interface Detail {
  path?: string
  rule?: string
  executed?: "no" | "unknown" | "yes"
  retry_after_ms?: number
  [key: string]: unknown
}

/** A message of a group. */
export interface RelayMessage {
  group_id: string
  from_user_id: string
  message: any
  timestamp: string
}

/** What becomes of a request. */
export interface Receiver {
  /** Results will follow: any number of a stream, otherwise one. */
  acknowledged(stream: boolean): void
  response(response: Response): void
  /** The gateway has taken a request that has no answer. */
  accepted(): void
  /**
   * No answer will come. The request can be opened again: `now`, and goes out when there is a connection, `later`,
   * or `never`.
   */
  lost(again: "now" | "later" | "never", cause?: unknown): void
}

/** A request that is on its way. */
export interface Exchange {
  /** Whether the gateway may have seen it. */
  readonly sent: boolean
  /** Tells the gateway to stop; nothing more comes from here. */
  cancel(): void
  /** Lets a stream send so many items more. */
  grant(credit: number): void
}

/** How requests reach a gateway. */
export interface Transport {
  open(request: Request, timeoutMs: number, receiver: Receiver): Exchange
  relay(listener: (message: RelayMessage) => void): () => void
  close(): void
}
