// Making elements. Every text reaches the page as a text node, so no data can become markup.

const SVG_NS = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined) continue;
    if (key.startsWith("aria-")) {
      node.setAttribute(key, String(value));
    } else if (value === false) {
      continue;
    } else if (key === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (key === "vars") {
      for (const [name, setting] of Object.entries(value)) node.style.setProperty(name, setting);
    } else {
      node.setAttribute(key, value === true ? "" : String(value));
    }
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined));
  return node;
}

function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG_NS, tag), attributes, children);
}

const ICONS = {
  back: "M10 3 5 8l5 5",
  close: "m4 4 8 8m0-8-8 8",
  down: "m4 6.5 4 4 4-4",
  minus: "M3.5 8h9",
  moon: "M13 9.6A5.5 5.5 0 0 1 6.4 3a5.5 5.5 0 1 0 6.6 6.6Z",
  next: "m6 3 5 5-5 5",
  pencil: "M3 13l.7-2.9L10.9 3l2.1 2.1L5.9 12.3 3 13Z",
  plus: "M8 3.5v9M3.5 8h9",
  reset: "M3.2 6.2A5.2 5.2 0 1 1 2.9 9M3 2.8v3.6h3.6",
  sun: "M8 1.5v1.3m0 10.4v1.3M1.5 8h1.3m10.4 0h1.3M3.4 3.4l.9.9m7.4 7.4.9.9m0-9.2-.9.9m-7.4 7.4-.9.9M11 8a3 3 0 1 1-6 0 3 3 0 0 1 6 0Z",
};

function icon(name) {
  return s("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" },
    s("path", { d: ICONS[name] }));
}
