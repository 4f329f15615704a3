// The request path: where the time of a request goes, hop by hop, and single requests.

import { byId, h, keepFocus, roving, along } from "./dom.js";
import { clock, fine, rate, share, span, ticks } from "./format.js";
import { get } from "./feed.js";

let chosen = null; // id of a trace
let trace = null;
let last = [];
let held = null; // the list as it was when one was opened: nothing moves while one reads

export async function drawPath() {
  const path = await get("/api/path");
  const box = byId("path-body");
  if (!path || !path.hops?.length) {
    if (!box.querySelector(".quiet")) {
      box.replaceChildren(h("p", { class: "quiet" }, "No measurements yet. They come with the first requests through the platform."));
    }
    return;
  }
  if (chosen && trace?.id !== chosen) trace = await get(`/api/trace/${chosen}`).catch(() => ({ id: chosen, gone: true }));
  last = path.traces;
  keepFocus(box, "part", () => box.replaceChildren(summary(path), hops(path), requests(path)));
  roving(box.querySelector(".requests"), "[data-part]", along);
}

function summary(path) {
  const all = path.request;
  const own = all.own_rps ? `, ${rate(all.own_rps)} of them the supervisor's own` : "";
  const facts = [[`requests a second${own}`, rate(all.rate_rps)], ["mean", `${fine(all.mean_ms)} ms`], ["half are faster than", `${fine(all.p50_ms)} ms`],
    ["95 of 100 than", `${fine(all.p95_ms)} ms`], ["99 of 100 than", `${fine(all.p99_ms)} ms`], ["errors", share(all.error_ratio)]];
  return h("dl", { class: "figures" }, ...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** Hops in the order of the calls, each below who calls it, with its depth. */
export function ordered(path) {
  const called = new Set(path.edges.map((edge) => edge.server));
  const known = new Map(path.hops.map((hop) => [hop.name, hop]));
  const found = new Map();
  function visit(name, depth, from) {
    if (!known.has(name) || found.has(name)) return;
    found.set(name, { hop: known.get(name), depth, from });
    for (const edge of path.edges) if (edge.client === name) visit(edge.server, depth + 1, edge);
  }
  for (const hop of path.hops) {
    const outer = path.edges.find((edge) => edge.server === hop.name && !known.has(edge.client));
    if (outer || !called.has(hop.name)) visit(hop.name, 0, outer);
  }
  for (const hop of path.hops) visit(hop.name, 0, null);
  return [...found.values()];
}

function hops(path) {
  const rows = ordered(path);
  const most = Math.max(...path.hops.map((hop) => hop.self_ms.p99 || 0), 0.001);
  const width = (ms) => `${Math.min(100, (ms / most) * 100)}%`;
  const head = h("tr", {}, ...["hop", "own time in ms", "mean", "p95", "p99", "way there", "per second", "errors"].map((text) => h("th", { scope: "col" }, text)));
  const body = rows.map(({ hop, depth, from }) => {
    const bars = h("div", { class: "selfbar", "aria-hidden": "true" }, ...["p99", "p95", "mean"].map((key) => {
      const piece = h("i", { class: key });
      piece.style.width = width(hop.self_ms[key] || 0);
      return piece;
    }));
    const name = h("th", { scope: "row" }, h("span", { class: "hop" }, hop.name), hop.name === path.slowest ? h("em", {}, "slowest") : null);
    name.style.setProperty("--depth", String(depth));
    const cell = (label, text) => h("td", { "data-label": label }, text);
    return h("tr", { "data-slowest": hop.name === path.slowest }, name, h("td", { class: "bars" }, bars),
      cell("mean", fine(hop.self_ms.mean)), cell("p95", fine(hop.self_ms.p95)), cell("p99", fine(hop.self_ms.p99)),
      cell("way there", from?.transit_ms ? fine(from.transit_ms.mean) : "–"), cell("per second", rate(hop.rate_rps)), cell("errors", share(hop.error_ratio)));
  });
  return h("div", { class: "scroll" }, h("table", { class: "hops" },
    h("caption", {}, `The last ${path.window_s} s. Bars: mean, then 95 and 99 of 100; measured to ${resolution(path.resolution_s)}.`),
    h("thead", {}, head), h("tbody", {}, ...body)));
}

function resolution(seconds) {
  return seconds < 1e-3 ? `${Math.round(seconds * 1e6)} µs` : `${Math.round(seconds * 1e3)} ms`;
}

function requests(path) {
  const list = held || path.traces;
  const rows = list.map((each) => h("li", {}, h("button", { class: "request", "data-part": each.id, "aria-expanded": String(each.id === chosen), onclick: () => open(each.id) },
    h("span", { class: "name" }, each.route, each.own ? h("small", {}, " asked by the supervisor itself") : null), h("span", { "data-kind": each.status >= 500 ? "bad" : "" }, String(each.status)),
    h("span", { class: "took" }, `${fine(each.total_ms)} ms`), h("span", { class: "when" }, clock(each.at * (each.at < 1e11 ? 1000 : 1)))),
  each.id === chosen && trace ? waterfall(trace) : null));
  return h("div", { class: "requests" }, list.length ? h("h3", {}, "Single requests", held ? h("small", {}, " as they were when you opened one") : null) : null, h("ol", {}, ...rows));
}

async function open(id) {
  chosen = chosen === id ? null : id;
  held = chosen ? held || last : null;
  await drawPath();
}

function waterfall(found) {
  if (found.gone) return h("p", { class: "quiet" }, "That request is not kept any more.");
  const end = Math.max(found.total_ms || 0, ...found.spans.map((each) => each.start_ms + each.duration_ms), 0.001);
  const axis = h("div", { class: "axis", "aria-hidden": "true" }, ...ticks(end, 5).map((at) => {
    const mark = h("span", {}, at === 0 ? "0" : span(at));
    mark.style.left = `${(at / end) * 100}%`;
    return mark;
  }));
  return h("div", { class: "gantt waterfall" }, axis, h("ol", {}, ...found.spans.map((each) => {
    const piece = h("i", { class: "bar provision" });
    piece.style.left = `${(each.start_ms / end) * 100}%`;
    piece.style.width = `${(each.duration_ms / end) * 100}%`;
    const name = h("span", { class: "name" }, each.hop);
    name.style.setProperty("--depth", String(each.depth));
    return h("li", {}, name, h("div", { class: "track" }, piece), h("span", { class: "took" }, `${fine(each.duration_ms)} ms`, h("small", {}, ` own ${fine(each.self_ms)}`)));
  })));
}
