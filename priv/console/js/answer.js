// The panel of a response: one body, or the frames of a stream as they arrive.

const SHOWN = 100000
const FRAMES = 1000
const KEPT = 10000

class Answer {
  constructor() {
    this.frames = $("frames")
    $("show-all").addEventListener("click", () => this.showAll())
    $("copy-answer").addEventListener("click", () => copy(this.text, "Response copied"))
  }

  clear() {
    show($("answer"), false)
  }

  begin(stream) {
    this.started = performance.now()
    this.text = ""
    this.count = 0
    this.size = 0
    this.kept = []
    this.fresh = 0
    this.over = false
    cancelAnimationFrame(this.pending)
    this.pending = null
    this.rest = ""
    fill(this.frames)
    fill($("body"))
    for (const id of ["sentence", "dropped", "show-all", "frames", "copy-answer"]) show($(id), false)
    show($("body"), !stream)
    show($("answer"), true)
    this.outcome("Running", "running")
    $("answer").scrollIntoView({block: "nearest"})
  }

  elapsed() {
    return milliseconds(performance.now() - this.started)
  }

  outcome(label, tone, ...more) {
    fill($("outcome"), el("span", {class: `status ${tone}`, text: label}), ...more.filter(Boolean).map(text => el("span", {text})))
  }

  sentence(text) {
    $("sentence").textContent = text
    show($("sentence"), Boolean(text))
  }

  // An answer that is complete.
  whole(response, text) {
    const ok = response.ok
    this.text = text
    const body = this.read(text)
    show(this.frames, false)
    show($("body"), true)
    show($("copy-answer"), true)
    this.outcome(`${response.status} ${response.statusText || (ok ? "OK" : "")}`.trim(), ok ? "ok" : "bad",
      this.elapsed(), bytes(new Blob([text]).size), `id ${response.headers.get("x-request-id") || "–"}`)
    this.sentence(ok ? "" : this.explain(response, body))
    this.print(body === undefined ? text : pretty(ok && "result" in body ? body.result : body))
    return body
  }

  read(text) {
    try { return parse(text) } catch { return undefined }
  }

  explain(response, body) {
    const retry = response.headers.get("retry-after")
    return [
      body?.error || "The answer is no JSON.",
      body?.code ? `(${body.code})` : "",
      retry ? `Try again in ${retry} s.` : body?.can_retry ? "The same call may succeed later." : "",
    ].filter(Boolean).join(" ")
  }

  print(text) {
    $("body").textContent = text.slice(0, SHOWN)
    this.rest = text.slice(SHOWN)
    $("show-all").textContent = `Show the other ${bytes(this.rest.length)}`
    show($("show-all"), this.rest !== "")
  }

  showAll() {
    $("body").append(this.rest)
    this.rest = ""
    show($("show-all"), false)
    $("body").focus()
  }

  streaming(response) {
    this.id = response.headers.get("x-request-id")
    show(this.frames, true)
    show($("body"), false)
    this.progress()
  }

  // Frames may come faster than a screen shows them: they are drawn together.
  frame(frame, size) {
    this.count += 1
    this.size += size
    this.last = frame
    this.kept.push({frame, at: this.elapsed()})
    if (this.kept.length > 2 * KEPT) this.kept.splice(0, this.kept.length - KEPT)
    this.fresh += 1
    this.progress()
  }

  progress() {
    if (this.pending) return
    this.pending = requestAnimationFrame(() => {
      this.draw()
      if (!this.over) this.outcome("Streaming", "running", this.counted(), this.elapsed())
    })
  }

  draw() {
    cancelAnimationFrame(this.pending)
    this.pending = null
    if (this.fresh === 0) return
    // Follows the end, unless somebody has scrolled away from it.
    const follows = this.frames.scrollTop + this.frames.clientHeight >= this.frames.scrollHeight - 4
    const fresh = this.kept.slice(-Math.min(this.fresh, FRAMES))
    this.fresh = 0
    this.frames.append(...fresh.map(each => this.line(each)))
    for (let over = this.frames.childElementCount - FRAMES; over > 0; over--) this.frames.firstElementChild.remove()
    if (this.count > FRAMES) {
      $("dropped").textContent = `The last ${FRAMES} of ${this.count} frames. Copy takes ${this.count > KEPT ? `the last ${KEPT}` : "all"}.`
      show($("dropped"), true)
    }
    if (follows) this.frames.scrollTop = this.frames.scrollHeight
  }

  line({frame, at}) {
    const what = !frame.success
      ? el("span", {class: "what bad", text: `${frame.error} (${frame.code})`})
      : !frame.has_more && frame.result === null
        ? el("span", {class: "what end", text: "end of the stream"})
        : el("span", {class: "what", text: typeof frame.result === "string" ? frame.result : JSON.stringify(frame.result)})
    return el("li", {}, el("span", {class: "at", text: at}), what)
  }

  counted() {
    return `${this.count} frame${this.count === 1 ? "" : "s"}, ${bytes(this.size)}`
  }

  finish(how) {
    this.over = true
    this.draw()
    this.text = this.kept.slice(-KEPT).map(({frame}) => JSON.stringify(frame)).join("\n")
    show($("copy-answer"), this.count > 0)
    const failed = this.last && this.count > 0 && !this.last.success
    const [label, tone] =
      how === "cancelled" ? ["Cancelled", "bad"]
      : how === "torn" ? ["Connection lost", "bad"]
      : failed ? ["Failed", "bad"] : ["Complete", "ok"]
    this.outcome(label, tone, this.counted(), this.elapsed(), `id ${this.id || "–"}`)
    if (failed) this.sentence(`${this.last.error} (${this.last.code})`)
  }

  unreachable(error) {
    this.over = true
    this.outcome("No answer", "bad", this.elapsed())
    this.sentence(`The gateway did not answer: ${error.message}`)
    show($("body"), false)
  }

  cancelled() {
    this.over = true
    this.outcome("Cancelled", "bad", this.elapsed())
    show($("body"), false)
  }
}
