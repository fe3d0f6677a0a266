// What a JSON Schema of the gateway says, as far as a form wants to know.

const types = schema => (Array.isArray(schema.type) ? schema.type : schema.type ? [schema.type] : [])

const nullable = schema => types(schema).includes("null") || (schema.enum || []).includes(null)

// string, number, integer, boolean, enum, array, object, or json for what has no form of its own
function kind(schema) {
  if (schema.enum) return "enum"
  const real = types(schema).filter(type => type !== "null")
  if (real.length !== 1) return "json"
  if (real[0] === "array") return schema.items && kind(schema.items) !== "json" ? "array" : "json"
  if (real[0] === "object") return schema.properties ? "object" : "json"
  return real[0]
}

const order = schema => schema["x-order"] || Object.keys(schema.properties || {})

// What a new value begins as.
function initial(schema) {
  if (schema.default !== undefined) return schema.default
  switch (kind(schema)) {
    case "enum": return schema.enum.find(value => value !== null)
    case "string": return ""
    case "integer":
    case "number": return schema.minimum > 0 ? schema.minimum : 0
    case "boolean": return false
    case "array": return Array.from({length: schema.minItems || 0}, () => initial(schema.items))
    case "object": return initialObject(schema)
    default: return types(schema).includes("array") ? [] : types(schema).includes("object") ? {} : ""
  }
}

// Only what has to be there: the rest is optional or has a default.
function initialObject(schema) {
  const object = {}
  for (const name of order(schema))
    if ((schema.required || []).includes(name)) object[name] = initial(schema.properties[name])
  return object
}

const anyOf = names => (names.length === 0 || names.length > 4 ? "any value" : names.join(" or "))

function hint(schema) {
  const parts = []
  const format = schema.format || schema["x-format"]
  const names = {enum: "one of a list", array: "list", json: anyOf(types(schema).filter(type => type !== "null"))}
  parts.push(format || names[kind(schema)] || kind(schema))
  if (kind(schema) === "json") parts.push("written as JSON")
  const between = (low, high, unit) => {
    if (low !== undefined && high !== undefined) parts.push(`${low} to ${high}${unit}`)
    else if (high !== undefined) parts.push(`at most ${high}${unit}`)
    else if (low !== undefined) parts.push(`at least ${low}${unit}`)
  }
  between(schema.minimum, schema.maximum, "")
  between(schema.minLength, schema.maxLength, " characters")
  between(schema.minItems, schema.maxItems, " items")
  if (schema["x-max-bytes"] !== undefined) parts.push(`at most ${schema["x-max-bytes"]} bytes`)
  const pattern = schema["x-pattern"] || (format ? undefined : schema.pattern)
  if (pattern) parts.push(`matches ${pattern}`)
  if (nullable(schema)) parts.push("or null")
  if (schema.default !== undefined) parts.push(`default ${JSON.stringify(schema.default)}`)
  return parts.join(" · ")
}

const example = schema => ({
  "date-time": "2026-01-31T12:00:00Z", date: "2026-01-31", uuid: "123e4567-e89b-12d3-a456-426614174000",
  "naive-datetime": "2026-01-31T12:00:00", time: "12:00:00",
}[schema.format || schema["x-format"]])

const WORDS = {
  string: "text", integer: "an integer", num: "a number", float: "a number", boolean: "true or false", list: "a list", map: "an object",
  datetime: "a date and time with offset, such as 2026-01-31T12:00:00Z", naive_datetime: "a date and time without offset",
  date: "a date, such as 2026-01-31", time: "a time, such as 12:00:00", uuid: "a UUID", enum: "one of the listed values",
}

// A problem of the gateway's details, as a sentence.
function problem({rule, limit, expected, values}) {
  switch (rule) {
    case "required": return "is required"
    case "extra": return "is not declared"
    case "type": return `must be ${WORDS[expected] || expected || "of another type"}`
    case "enum": return `must be one of ${(values || []).map(value => JSON.stringify(value)).join(", ")}`
    case "min": return `must be at least ${limit}`
    case "max": return `must be at most ${limit}`
    case "min_length": return `must have at least ${limit} characters`
    case "max_length": return `must have at most ${limit} characters`
    case "max_bytes": return `must have at most ${limit} bytes`
    case "min_items": return `must have at least ${limit} items`
    case "max_items": return `must have at most ${limit} items`
    case "max_depth": return `is nested too deeply${limit ? ` (at most ${limit} levels)` : ""}`
    case "max_nodes": return `has too many values${limit ? ` (at most ${limit})` : ""}`
    case "max_digits": return `has too many digits${limit ? ` (at most ${limit})` : ""}`
    case "format": return "does not have the expected format"
    case "encoding": return "is not valid text"
    default: return `is invalid (${rule})`
  }
}
