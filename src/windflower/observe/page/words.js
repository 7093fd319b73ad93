// Numbers, times and elements, as words: no room knows the page's data but those that draw it.

/** Make an element: `h("p", {class: "quiet"}, "text", otherElement)`. Text is never read as HTML. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if ((value ?? false) === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...there(children));
  return element;
}

const there = (children) => children.flat(9).filter((child) => (child ?? null) !== null);

export const quiet = (...text) => h("p", { class: "quiet" }, text);

export const panel = (...content) => h("section", { class: "card" }, content);

export const card = (title, ...content) => panel(h("h2", {}, title), content);

/** Names and what they stand for. */
export const facts = (kind, pairs) => h("dl", { class: kind }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

/** Leads to a device's or a run's own view. */
export const link = (kind, name) => h("a", { href: `#/${kind}/${encodeURIComponent(name)}` }, name);

/** What devices get of an app, as `windflower bundle` names it. */
export const bundle = (run) => `bundle ${run.bundle.slice(0, 12)}`;

const local = (at, style) => (at ? new Date(at * 1000).toLocaleString([], { ...style, hour12: false }) : "–");

/** A point in time, as the watcher's clock shows it; after a day, with its date. */
export const clock = (at) => local(at, { dateStyle: Date.now() / 1000 - at > 86400 ? "short" : undefined, timeStyle: "medium" });

export const day = (at) => local(at, { dateStyle: "medium", timeStyle: "short" });

/** 0.42 s, 12 s, 3 min 5 s, 2 h 10 min, 3 d 4 h. */
export function span(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const s = Math.max(seconds, 0);
  if (s < 9.95) return `${s.toFixed(s < 0.995 ? 2 : 1)} s`;
  const two = (big, unit, small, rest) => (small ? `${big} ${unit} ${small} ${rest}` : `${big} ${unit}`);
  const whole = Math.round(s);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  const minutes = Math.round(s / 60);
  if (minutes < 1440) return two(Math.floor(minutes / 60), "h", minutes % 60, "min");
  const hours = Math.round(s / 3600);
  return two(Math.floor(hours / 24), "d", hours % 24, "h");
}

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 99.5 ? value.toPrecision(2) : Math.round(value)} ${units[unit]}`;
}

export function dollars(value) {
  if (!Number.isFinite(value)) return "–";
  return value >= 0.01 || value === 0 ? `$${value.toFixed(2)}` : `$${value.toPrecision(2)}`;
}

export function figure(value) {
  if (!Number.isFinite(value)) return "–";
  return Number.isInteger(value) ? value.toLocaleString("en") : Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5 ? value.toExponential(2) : value.toFixed(4).replace(/0{1,3}$/, "");
}

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

const WORDS = { open: "running", missing: "no answer", late: "too late", ok: "ok", failed: "failed" };

/** A state: a shape, a word and a colour. */
export const state = (name, word) => h("span", { class: `state ${name}` }, word ?? WORDS[name] ?? name);

/** What a device was asked, in Flower's words. */
export const method = (name) => (name === "fit" ? "train" : name);

let pressed = null; // what is under a finger, until the click is over
const waiting = new Map();
addEventListener("pointerdown", ({ target, button }) => { pressed = button ? null : target; });
for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => setTimeout(() => {
  pressed = null;
  for (const [parent, children] of waiting) show(parent, ...children);
}));
addEventListener("hashchange", () => { pressed = null; waiting.clear(); });

/** Replace what an element shows: focus is kept, and nothing goes away under a finger. */
export function show(parent, ...children) {
  if (parent.contains(pressed)) return void waiting.set(parent, children);
  waiting.delete(parent);
  const { id, tagName, hash } = document.activeElement;
  const focused = parent.contains(document.activeElement) && (id ? `#${CSS.escape(id)}` : hash ? `a[href="${CSS.escape(hash)}"]` : tagName);
  parent.replaceChildren(...there(children));
  if (focused) parent.querySelector(focused)?.focus();
}

/** A table; `columns` are [heading, is a number, shown on phones too]. Cells are text or elements. */
export function table(caption, columns, rows) {
  const kind = ([, isNumber, isMain = true]) => [isNumber ? "n" : "", isMain ? "" : "wide"].join(" ").trim() || undefined;
  const cell = (name, content, column) => h(name, { class: kind(column), scope: name === "th" ? "col" : undefined }, content);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, columns.map((column) => cell("th", column[0], column)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((content, i) => cell("td", content, columns[i])))))));
}
