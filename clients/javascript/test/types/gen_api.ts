// The functions of a gateway, written by `mix phoenix_gen_api.gen.typescript`. Changes to this file are lost.
import type {CallOptions, Functions, StreamOptions} from "phoenix-gen-api"

export interface Api {
  "chat-rooms": {
    send(
      args: {
        group_id: string
        message: unknown
        extra: Record<string, boolean | number | string | (boolean | number | string)[]>
        list: (boolean | number | string)[]
      },
      options?: CallOptions
    ): Promise<unknown>
  }

  old: {
    only(args?: Record<string, never>, options?: CallOptions): Promise<unknown>
  }

  shop: {
    /**
     * Ends with *\/ and goes on.
     *
     * @deprecated
     */
    "cancel order"(
      args: {"order-id": string; reason: unknown},
      options?: CallOptions
    ): Promise<unknown>

    open(args?: Record<string, never>, options?: CallOptions): Promise<boolean>

    /** @deprecated use search */
    orders(
      args?: {
        status?: "open" | "paid" | "sent \"now\""
        sort?: "asc" | "desc" | null
        tags?: ("new" | "old")[] | null
      },
      options?: CallOptions
    ): Promise<{
      id: string
      ordered_at: string
      lines: {item: string; quantity: number; note?: string | null}[]
      discount?: number | null
      status: "open" | "paid"
    }[]>

    /** The price of a number of items. */
    price(
      args: {item: string; quantity?: number},
      options?: CallOptions
    ): Promise<{item: string; total: number}>

    /**
     * Prices as they change.
     *
     * Ends with the trading day.
     */
    prices(args: {symbol: string}, options?: StreamOptions): AsyncIterable<number>

    track(
      args: {event: string; data?: Record<string, unknown> | null},
      options?: CallOptions
    ): Promise<void>

    v(version: "2.0.0"): {
      price(args: {items: string[]}, options?: CallOptions): Promise<number[]>
    }
  }
}

/** For `connect`: which functions are streams, how long they may take, and which may be called twice. */
export const functions: Functions = {
  "chat-rooms": {
    send: {timeoutMs: 5000}
  },
  old: {
    only: {timeoutMs: 5000}
  },
  shop: {
    "cancel order": {timeoutMs: 60000},
    open: {timeoutMs: Infinity, idempotent: true},
    orders: {timeoutMs: 5000},
    price: {timeoutMs: 5000, idempotent: true},
    prices: {kind: "stream"},
    track: {kind: "none", timeoutMs: 5000},
    "price@2.0.0": {timeoutMs: 5000}
  }
}
