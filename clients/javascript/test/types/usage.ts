// Compiled by types.test.mjs: what a user writes, and is told.
import {connect, GenApiError, close, type RelayMessage} from "phoenix-gen-api"
import {Socket} from "phoenix"
import {functions, type Api} from "./gen_api.js"

declare const socket: Socket

export async function main(signal: AbortSignal) {
  const api = connect<Api>({socket, topic: "api:lobby", event: "api", functions})
  const http = connect<Api>({url: "/gen_api", headers: () => ({authorization: "Bearer x"})})
  connect<Api>({channel: socket.channel("api:lobby"), event: "api"})

  const price = await api.shop.price({item: "tea", quantity: 3}, {signal, timeoutMs: 500, deadlineMs: 400, retry: 0})
  const total: number = price.total
  await api.shop.price({item: "tea"})
  await http.shop.open()
  await api.shop.orders()
  const [order] = await api.shop.orders({status: "paid", sort: null})
  const note: string | null | undefined = order?.lines[0]?.note
  const nothing: void = await api.shop.track({event: "seen"})
  await api.shop["cancel order"]({"order-id": "1", reason: {any: ["thing"]}})
  const numbers: number[] = await api.shop.v("2.0.0").price({items: ["tea"]})

  for await (const price of api.shop.prices({symbol: "TEA"}, {signal, credit: 10})) price.toFixed(2)

  const stop = api.relay.on((message: RelayMessage) => message.message.text)
  stop()
  close(api)

  try {
    await api.shop.open()
  } catch (error) {
    if (error instanceof GenApiError && error.code === "rate_limited") return error.details[0]?.retry_after_ms
  }
  return [total, note, nothing, numbers]
}
