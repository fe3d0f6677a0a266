// The client of a channel with `use PhoenixGenApi`, on top of Phoenix's own.
//
//   const api = genApi(channel, "api")
//   const response = await api.call({service: "shop", request_type: "quote", args: {item: "tea"}})
//   const stream = api.stream({service: "shop", request_type: "prices"}, item => show(item))
//   stream.cancel()
//   await stream.done
//
// Promises resolve to the response, also when it says that the request has failed: look at
// `success` and `error`. They reject when there is no answer: no connection, or a timeout.

// Answers are matched by this id, so nobody else may be able to guess it.
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("")
}

export function genApi(channel, event) {
  const running = new Map() // request_id => {item, resolve, reject} of what goes on after its reply

  // A reply comes before all that is pushed for its request.
  channel.on(event, response => {
    const request = running.get(response.request_id)
    if (!request) return
    if (response.has_more) return request.item(response.result)
    running.delete(response.request_id)
    // A stream's last frame may bring a last item.
    if (response.success && response.result !== null) request.item(response.result)
    request.resolve(response)
  })

  channel.onError(() => {
    for (const request of running.values()) request.reject(new Error("connection lost"))
    running.clear()
  })

  function start(request, item) {
    const request_id = randomId()
    const done = new Promise((resolve, reject) => {
      channel.push(event, {...request, request_id})
        .receive("ok", response => {
          if (response.async) running.set(request_id, {item, resolve, reject})
          else resolve(response)
        })
        .receive("error", resolve)
        .receive("timeout", () => reject(new Error("no answer in time")))
    })
    return {request_id, done}
  }

  return {
    call: request => start(request, () => {}).done,

    stream(request, item) {
      const {request_id, done} = start(request, item)
      return {done, cancel: () => channel.push(event, {request_id, cancel: true})}
    }
  }
}
