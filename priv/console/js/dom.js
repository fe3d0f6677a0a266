// Elements. Text of functions, results and errors only ever becomes text, never markup.

const $ = id => document.getElementById(id)

function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue
    if (name === "class") element.className = value
    else if (name === "text") element.textContent = value
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value)
    else element.setAttribute(name, value === true ? "" : value)
  }
  element.append(...children.filter(child => child !== null && child !== undefined))
  return element
}

function show(element, visible) {
  element.hidden = !visible
}

function fill(element, ...children) {
  element.replaceChildren(...children)
}

let lastId = 0
const newId = () => `e${++lastId}`

const pretty = value => JSON.stringify(value, null, 2)

function bytes(count) {
  if (count < 1024) return `${count} B`
  if (count < 1024 * 1024) return `${(count / 1024).toFixed(1)} KB`
  return `${(count / 1024 / 1024).toFixed(1)} MB`
}

function milliseconds(ms) {
  if (ms < 10) return `${ms.toFixed(1)} ms`
  if (ms >= 1000 && ms % 1000 === 0) return `${ms / 1000} s`
  if (ms < 10000) return `${Math.round(ms)} ms`
  return `${(ms / 1000).toFixed(1)} s`
}

// Integers that a browser's numbers cannot hold stay as they were written, where the browser lets them.
function parse(text) {
  return JSON.parse(text, (_key, value, context) =>
    typeof value === "number" && context?.source && JSON.rawJSON && /^-?\d+$/.test(context.source) && !Number.isSafeInteger(value)
      ? JSON.rawJSON(context.source) : value)
}
