// A form for the arguments of one function. The values are in `root`, which `changed` is told of; what is not in
// there is not sent. Fields carry their path in the gateway's notation, `order.lines[0].qty`.

class ArgumentForm {
  constructor(container, changed) {
    this.container = container
    this.changed = changed
    this.errors = new Map()
  }

  load(schema, root) {
    this.schema = schema
    this.root = root
    this.render()
  }

  render(focus) {
    this.errors.clear()
    const names = order(this.schema)
    fill(this.container, ...names.map(name => this.member(this.root, this.schema, name, name)))
    if (names.length === 0) fill(this.container, el("p", {class: "none", text: "This function takes no arguments."}))
    if (focus) this.control(focus)?.focus()
  }

  control(path) {
    return this.container.querySelector(`[data-path="${CSS.escape(path)}"]`)
  }

  // A member of an object, which may be left out unless it is required.
  member(object, schema, name, path) {
    const own = schema.properties[name]
    const required = (schema.required || []).includes(name)
    const access = {
      get: () => object[name],
      set: value => { value === undefined ? delete object[name] : (object[name] = value); this.changed() },
      optional: !required,
    }
    return this.field(own, name, path, access)
  }

  field(schema, name, path, access) {
    const value = access.get()
    const which = value === undefined || value === null || this.fits(schema, value) ? kind(schema) : "json"
    switch (which) {
      case "object": return this.group(schema, name, path, access)
      case "array": return this.group(schema, name, path, access)
      case "boolean": return this.choice(schema, name, path, access, [true, false])
      case "enum": return this.choice(schema, name, path, access, schema.enum)
      case "json": return this.text(schema, name, path, access, "json")
      default: return this.text(schema, name, path, access, which)
    }
  }

  // Whether a field of the form can show a value that was written as JSON.
  fits(schema, value) {
    switch (kind(schema)) {
      case "object": return typeof value === "object" && !Array.isArray(value)
      case "array": return Array.isArray(value)
      case "boolean": return typeof value === "boolean"
      case "enum": return schema.enum.includes(value)
      case "string": return typeof value === "string"
      case "integer":
      case "number": return typeof value === "number"
      default: return true
    }
  }

  // Label, hint, control and the place of an error, which belong together for those who hear them.
  wrap(schema, name, path, access, control, extra) {
    const id = newId()
    control.id = id
    control.dataset.path = path
    const error = el("p", {class: "error", id: `${id}-error`, hidden: true})
    control.setAttribute("aria-describedby", `${id}-hint ${id}-error`)
    if (!access.optional) control.setAttribute("aria-required", "true")
    this.errors.set(path, {control, error})
    return el("div", {class: "field"},
      el("div", {class: "line"},
        el("label", {for: id, text: name}),
        access.optional || access.item ? null : el("span", {class: "must", "aria-hidden": "true", text: "required"}),
        el("span", {class: "hint", id: `${id}-hint`, text: hint(schema)})),
      control, extra, error)
  }

  text(schema, name, path, access, which) {
    const value = access.get()
    const long = which === "json" || (which === "string" && (schema.maxLength > 500 || /\n/.test(value || "")))
    const placeholder = access.optional
      ? schema.default !== undefined ? `${JSON.stringify(schema.default)} if left empty` : "not sent if left empty"
      : example(schema)
    const control = el(long ? "textarea" : "input", {
      spellcheck: "false", autocomplete: "off", placeholder, rows: long ? 2 : null,
      inputmode: which === "integer" ? "numeric" : which === "number" ? "decimal" : null,
    })
    const shown = which === "json" || typeof value !== "string" ? JSON.stringify(value) : value
    control.value = value === undefined ? "" : shown
    control.addEventListener("input", () => {
      const [parsed, problem] = this.parse(control.value, which, access, schema)
      this.mark(path, problem)
      if (!problem) access.set(parsed)
    })
    return this.wrap(schema, name, path, access, control)
  }

  parse(text, which, access, schema) {
    if (text === "" && access.optional) return [undefined]
    if (text === "null" && nullable(schema)) return [null]
    if (which === "string") return [text]
    if (which === "json") {
      try { return [parse(text)] } catch { return [undefined, "must be JSON, text in quotes"] }
    }
    const number = Number(text)
    if (text.trim() === "" || Number.isNaN(number)) return [undefined, `must be a${which === "integer" ? "n integer" : " number"}`]
    return [number]
  }

  choice(schema, name, path, access, values) {
    const options = [...values]
    if (nullable(schema) && !options.includes(null)) options.push(null)
    const control = el("select")
    if (access.optional) {
      const preset = schema.default !== undefined ? ` (${JSON.stringify(schema.default)})` : ""
      control.append(el("option", {value: "", text: `not sent${preset}`}))
    }
    options.forEach((value, index) =>
      control.append(el("option", {value: index, text: typeof value === "string" ? value : JSON.stringify(value)})))
    const value = access.get()
    control.value = value === undefined ? "" : String(options.indexOf(value))
    control.addEventListener("change", () => {
      this.mark(path, null)
      access.set(control.value === "" ? undefined : options[Number(control.value)])
    })
    return this.wrap(schema, name, path, access, control)
  }

  // An object or a list, with what is in it.
  group(schema, name, path, access) {
    const value = access.get()
    const error = el("p", {class: "error", id: newId(), hidden: true})
    const about = hint(schema)
    const set = el("fieldset", {"data-path": path, tabindex: "-1", "aria-describedby": error.id},
      el("legend", {text: access.optional || access.item ? name : `${name} (required)`}),
      about === "object" ? null : el("span", {class: "hint", text: about}), error)
    this.errors.set(path, {control: set, error})

    if (value === undefined || value === null) {
      set.append(el("button", {type: "button", class: "add", text: `Add ${name}`,
        onclick: () => { access.set(kind(schema) === "array" ? initial({...schema, minItems: schema.minItems || 1}) : initial(schema)); this.render(path) }}))
    } else if (kind(schema) === "object") {
      for (const inner of order(schema)) set.append(this.member(value, schema, inner, `${path}.${inner}`))
      if (access.optional) set.append(this.removal(`Remove ${name}`, () => { access.set(undefined); this.render(path) }))
    } else {
      this.items(set, schema, name, path, access, value)
    }
    return set
  }

  items(set, schema, name, path, access, list) {
    list.forEach((_, index) => {
      const at = `${path}[${index}]`
      const inner = {get: () => list[index], set: value => { list[index] = value === undefined ? null : value; this.changed() }, optional: false, item: true}
      const remove = el("button", {type: "button", text: "Remove", "aria-label": `Remove ${at}`,
        onclick: () => { list.splice(index, 1); this.changed(); this.render(path) }})
      set.append(el("div", {class: "item"}, this.field(schema.items, `[${index}]`, at, inner), remove))
    })
    set.append(el("button", {type: "button", class: "add", text: `Add an item to ${name}`,
      onclick: () => { list.push(initial(schema.items)); this.changed(); this.render(`${path}[${list.length - 1}]`) }}))
    if (access.optional) set.append(this.removal(`Remove ${name}`, () => { access.set(undefined); this.render(path) }))
  }

  removal(text, onclick) {
    return el("button", {type: "button", class: "add", text, onclick})
  }

  mark(path, sentence) {
    const field = this.errors.get(path)
    if (!field) return false
    field.error.textContent = sentence || ""
    show(field.error, Boolean(sentence))
    if (sentence) field.control.setAttribute("aria-invalid", "true")
    else field.control.removeAttribute("aria-invalid")
    if (field.control.tagName === "FIELDSET") field.control.classList.toggle("bad", Boolean(sentence))
    return true
  }

  clear() {
    for (const path of this.errors.keys()) this.mark(path, null)
  }

  // Shows problems at their fields. What has no field is there with the others, above.
  problems(details) {
    this.clear()
    return details.map(detail => {
      const path = detail.path || ""
      const sentence = problem(detail)
      return {path, sentence, placed: this.mark(path, sentence)}
    })
  }
}
