// The functions of all services, and the search through them.

class FunctionList {
  constructor(choose) {
    this.choose = choose
    this.services = []
    $("search").addEventListener("input", () => this.render())
    $("search").addEventListener("keydown", event => this.fromSearch(event))
    $("list").addEventListener("keydown", event => this.move(event))
  }

  load(services) {
    this.services = services
    this.render()
  }

  select(key) {
    this.selected = key
    for (const button of this.buttons()) {
      if (button.dataset.key === key) button.setAttribute("aria-current", "true")
      else button.removeAttribute("aria-current")
    }
  }

  buttons() {
    return [...$("list").querySelectorAll("button")]
  }

  matches(service, entry, words) {
    const versions = entry.versions.map(version => `${version.doc || ""} ${(version.tags || []).join(" ")}`)
    const text = `${service} ${entry.request_type} ${versions.join(" ")}`.toLowerCase()
    return words.every(word => text.includes(word))
  }

  render() {
    const words = $("search").value.toLowerCase().split(/[\s/]+/).filter(Boolean)
    let found = 0
    let all = 0
    const groups = this.services.map(({service, functions}) => {
      all += functions.length
      const matching = functions.filter(entry => this.matches(service, entry, words))
      found += matching.length
      if (matching.length === 0) return null
      const id = newId()
      return el("section", {"aria-labelledby": id}, el("h2", {id, text: service}),
        el("ul", {}, ...matching.map(entry => this.entry(service, entry))))
    })
    fill($("list"), ...groups.filter(Boolean))
    $("found").textContent = words.length
      ? found === 0 ? "No function matches." : `${found} of ${all} functions`
      : `${all} function${all === 1 ? "" : "s"}`
    if (this.selected) this.select(this.selected)
  }

  entry(service, entry) {
    const shown = versionOf(entry, null)
    const kinds = {stream: "stream", async: "async", none: "no result"}
    const key = `${service}/${entry.request_type}`
    return el("li", {}, el("button", {type: "button", "data-key": key, title: key, onclick: () => this.choose(service, entry)},
      el("span", {class: shown.deprecated ? "label old" : "label", text: entry.request_type}),
      shown.deprecated ? el("span", {class: "hidden", text: "deprecated"}) : null,
      kinds[shown.response_type] ? el("span", {class: "kind", text: kinds[shown.response_type]}) : null))
  }

  fromSearch(event) {
    const first = this.buttons()[0]
    if (event.key === "ArrowDown" && first) { event.preventDefault(); first.focus() }
    if (event.key === "Enter" && first) { event.preventDefault(); first.click() }
    if (event.key === "Escape") { $("search").value = ""; this.render() }
  }

  move(event) {
    const steps = {ArrowDown: 1, ArrowUp: -1}
    const buttons = this.buttons()
    const at = buttons.indexOf(document.activeElement)
    let to = at + (steps[event.key] || 0)
    if (event.key === "Home") to = 0
    if (event.key === "End") to = buttons.length - 1
    if (to === at || at < 0) return
    event.preventDefault()
    if (to < 0) $("search").focus()
    else buttons[to]?.focus()
  }
}

// The version to show: the one asked for, that of a request without one, or the last.
function versionOf(entry, wanted) {
  return entry.versions.find(version => version.version === (wanted || entry.default_version)) || entry.versions.at(-1)
}
