import type {Detail, Response} from "./wire.js"

/**
 * A call that failed.
 *
 * `code` is the gateway's, a function's own, or one of the client:
 * `unknown` (the answer is lost, the function may have run), `disconnected` (a stream has lost its
 * connection, or the channel is closed), `timeout` and `cancelled`.
 */
export class GenApiError extends Error {
  override name = "GenApiError"

  constructor(
    readonly code: string,
    message: string,
    readonly requestId: string | null,
    readonly details: Detail[] = [],
    readonly canRetry = false,
    cause?: unknown
  ) {
    super(message, {cause})
  }
}

export const fromResponse = (response: Response) =>
  new GenApiError(
    response.code ?? "error",
    response.error ?? "Error",
    response.request_id,
    response.details ?? [],
    response.can_retry
  )
