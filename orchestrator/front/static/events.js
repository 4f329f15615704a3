// The journal's end in words.

import { byId, h } from "./dom.js";
import { clock, count, plain } from "./format.js";

const MOST = 150;
const QUIET = new Set(["StepQueued", "StepProvisioned", "StepStarted"]);
const VERBS = { up: "bringing up", heal: "healing", replay: "replaying", down: "taking down", prune: "pruning", rotate: "rotating secrets" };

/** [text, kind] of a record; nothing for what only machines care for. */
export function sentence(record) {
  const node = record.node ? plain(record.node) : "";
  switch (record.event) {
    case "RunStarted":
      return [`${VERBS[record.command] || record.command}: ${count(record.nodes.length, "node")}`, "run"];
    case "RunFinished":
      return [`the run ended: ${record.outcome}${record.failed.length ? `; failed: ${record.failed.map(plain).join(", ")}` : ""}`, record.outcome === "failed" ? "bad" : "run"];
    case "DriftFound":
      return [`${node}: ${record.detail}`, "bad"];
    case "StepRetried":
      return [`${node}: attempt ${record.attempt} failed, again in ${record.delay_s.toFixed(2)} s: ${record.reason}`, "work"];
    case "GateChecked":
      return [`${node}: ${record.probe} ${record.passed ? "passed" : "not yet"}: ${record.answer}`, record.passed ? "" : "work"];
    case "StepFinished":
      if (record.outcome === "unchanged") return null;
      if (record.outcome !== "changed") return [`${node}: ${record.outcome}${record.reason ? `: ${record.reason}` : ""}`, "bad"];
      return [`${node} is ${record.action === "remove" ? "gone" : "ready"}`, "good"];
    case "ProcessStarted":
      return [`${node}: process ${record.pid} started`, ""];
    case "ProcessExited":
      return [`${node}: process ${record.pid} ended with ${record.returncode}`, ""];
    case "Noticed":
      return [`${node}: ${record.text}`, ""];
    case "CancelRequested":
      return [`${record.signal}: stopping`, "work"];
    default:
      return null;
  }
}

/** Puts a record on top. */
export function addEvent(record) {
  if (QUIET.has(record.event)) return;
  const found = sentence(record);
  if (!found) return;
  const [text, kind] = found;
  const log = byId("log");
  const at = record.wall_ns / 1e6;
  const part = String(Math.floor(at % 1000)).padStart(3, "0");
  log.prepend(h("li", { "data-kind": kind }, h("time", { datetime: new Date(at).toISOString() }, `${clock(at)}.${part}`), h("span", {}, text.split("\n")[0])));
  while (log.children.length > MOST) log.lastChild.remove();
}

export const clearEvents = () => byId("log").replaceChildren();
