// Elements without innerHTML: what services log must never become markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

/** An HTML element; `on…` attributes are listeners, children nodes or text. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** The sign of a state: its shape says what its colour says. */
export function sign(name, size = 16) {
  return s("svg", { class: "sign", width: size, height: size, "aria-hidden": "true" },
    s("use", { href: `#g-${name}` }));
}

export const byId = (id) => document.getElementById(id);

/** Text of an element, set only when it differs, so that nothing is announced twice. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * One stop for the tab key in a group, arrows within it.
 * `move(key, here, items)` gives the item to go to, or nothing.
 */
export function roving(group, selector, move) {
  const items = () => [...group.querySelectorAll(selector)];
  group.addEventListener("keydown", (event) => {
    const here = event.target.closest(selector);
    if (!here || event.altKey || event.ctrlKey || event.metaKey) return;
    const next = move(event.key, here, items());
    if (!next) return;
    event.preventDefault();
    stop(next, items());
    next.focus();
  });
  group.addEventListener("focusin", (event) => {
    const here = event.target.closest(selector);
    if (here) stop(here, items());
  });
}

function stop(chosen, items) {
  for (const item of items) item.setAttribute("tabindex", item === chosen ? "0" : "-1");
}

/** Along a list: arrows by one, Home and End. */
export function along(key, here, items) {
  const at = items.indexOf(here);
  if (key === "ArrowDown" || key === "ArrowRight") return items[at + 1];
  if (key === "ArrowUp" || key === "ArrowLeft") return items[at - 1];
  if (key === "Home") return items[0];
  if (key === "End") return items.at(-1);
  return null;
}

/** Gives the focus back to the same thing after a part was drawn anew. */
export function keepFocus(part, key, draw) {
  const had = part.contains(document.activeElement) ? document.activeElement.dataset[key] : undefined;
  draw();
  if (had === undefined) return;
  for (const each of part.querySelectorAll("[tabindex],button,a,input")) {
    if (each.dataset[key] === had) {
      each.focus({ preventScroll: true });
      return;
    }
  }
}
