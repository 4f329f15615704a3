// One node: what it is, what it waits for, and the commands that concern it.

import { byId, h, keepFocus, sign } from "./dom.js";
import { plain, span } from "./format.js";
import { command, copyable } from "./hand.js";
import { kind, signOf, word } from "./states.js";

const PROCESSES = ["service", "job"];

/** Draws the chosen node; `select(name)` goes to another one. */
export function drawDetail(model, select) {
  const box = byId("detail");
  const node = model.graph?.nodes.find((each) => each.name === model.selected);
  if (!node) {
    box.replaceChildren(legend(model));
    return;
  }
  const state = model.states.get(node.name) || "unknown";
  const facts = model.facts.get(node.name) || {};
  const needs = Object.entries(node.needs);
  const needed = model.graph.nodes.filter((each) => node.name in each.needs).map((each) => each.name);
  const title = h("h3", { "data-kind": kind(state) }, sign(signOf(state), 18), plain(node.name), h("span", { class: "state" }, word(state)));
  const rows = [
    ["layer", node.layer],
    ["address", facts.address],
    ["process", facts.pid && `${facts.pid}, up ${span((facts.uptime_s || 0) * 1000)}`],
    ["restarts", facts.pid && String(facts.restarts)],
    ["ready after", facts.ready_after_s !== null && facts.ready_after_s !== undefined && span(facts.ready_after_s * 1000)],
    ["now", facts.detail],
    ["last error", facts.last_error],
  ].filter(([, value]) => value);
  const links = (list) => list.map(([name, condition]) => h("button", { class: "plain", "data-go": name, onclick: () => select(name) },
    plain(name), condition && condition !== "ready" ? h("i", {}, ` ${condition}`) : null));
  const short = node.name.split(":")[1];
  const runs = PROCESSES.includes(node.kind);
  keepFocus(box, "go", () => box.replaceChildren(
    h("div", {}, title, h("dl", {}, ...rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
    h("div", {},
      h("h4", {}, needs.length ? "waits for" : "waits for nothing"), h("p", { class: "links" }, ...links(needs)),
      h("h4", {}, needed.length ? "is needed by" : "is needed by nothing"), h("p", { class: "links" }, ...links(needed.map((name) => [name, ""])))),
    h("div", { class: "commands" },
      runs && copyable(command(model.about, "logs -f", short)),
      copyable(command(model.about, "replay", runs ? short : node.name, "--dry-run")),
      node.kind === "service" && copyable(`ip netns exec ${model.about.host ? `${model.about.host}.` : ""}${short} ss -tlnp`),
      h("button", { class: "plain", "data-go": "close", onclick: () => select(null) }, "Close"))));
}

function legend(model) {
  const shown = ["ready", "queued", "starting", "probing", "backoff", "drifted", "failed", "skipped", "down"];
  return h("p", { class: "legend" }, ...shown.map((state) => h("span", { "data-kind": kind(state) }, sign(signOf(state), 13), word(state))),
    model.graph ? h("span", { class: "hint" }, "Choose a node for its needs, process and commands.") : null);
}
