// Runs: a list, and the timeline of the one that is chosen.

import { along, byId, h, keepFocus, roving, sign } from "./dom.js";
import { ago, clock, count, names, plain, span, ticks } from "./format.js";
import { get } from "./feed.js";

const VERBS = { up: "Brought up", heal: "Healed", replay: "Replayed", down: "Took down", prune: "Pruned", rotate: "Rotated secrets", drift: "Drift, left" };
const PHASES = [["slot_wait", "waits for a slot"], ["provision", "works"], ["readiness_wait", "proves that it is ready"], ["backoff", "backs off"]];

export class Runs {
  /** `play(run)` shows a run in the graph. */
  constructor(play) {
    this.play = play;
    this.list = [];
    this.chosen = null; // null: the newest
    this.all = false;
    roving(byId("run-list"), "[role=option]", (key, here, items) => {
      const next = along(key, here, items);
      if (next) this.choose(next.dataset.run);
      return next;
    });
  }

  /** Reads the list; gives the last finished `up`, whole. */
  async load() {
    this.list = await get("/api/runs");
    this.drawList();
    await this.drawRun();
  }

  async lastUp() {
    const found = this.list.find((run) => run.command === "up" && run.outcome === "changed");
    return found ? get(`/api/runs/${found.id}`) : null;
  }

  get id() {
    const known = this.list.some((run) => run.id === this.chosen);
    return known ? this.chosen : this.list[0]?.id;
  }

  choose(id) {
    this.chosen = id;
    this.drawList();
    this.drawRun();
  }

  drawList() {
    const box = byId("run-list");
    keepFocus(box, "run", () => {
      box.replaceChildren(...this.list.map((run) => {
        const chosen = run.id === this.id;
        return h("div", { role: "option", "data-run": run.id, "aria-selected": String(chosen), tabindex: chosen ? "0" : "-1", onclick: () => this.choose(run.id) },
          sign(outcome(run), 14), h("span", { class: "what" }, about(run)),
          h("span", { class: "when" }, `${clock(run.at_ms)}${run.seconds === null ? "" : ` · ${span(run.seconds * 1000)}`}`));
      }));
    });
    if (!this.list.length) box.replaceChildren(h("p", { class: "quiet" }, "The journal holds no run yet."));
  }

  async drawRun() {
    const box = byId("run");
    const id = this.id;
    if (!id) return box.replaceChildren();
    const run = await get(`/api/runs/${id}`);
    if (id !== this.id) return undefined; // another one was chosen meanwhile
    keepFocus(box, "part", () => box.replaceChildren(...this.timeline(run)));
    return undefined;
  }

  timeline(run) {
    const critical = new Set(run.critical);
    const touched = run.rows.filter((row) => row.outcome !== "unchanged" || critical.has(row.node));
    const quiet = run.rows.length - touched.length;
    const rows = this.all || !touched.length ? run.rows : touched;
    const end = Math.max(run.ends_ms, 1);
    const head = h("div", { class: "run-head" },
      h("h3", {}, about(run)),
      h("p", {}, `${clock(run.at_ms)}, ${ago(run.at_ms)}. ${result(run)}`),
      ...run.causes.map(([node, what]) => h("p", { class: "cause", "data-kind": "bad" }, sign("drifted", 13), `${plain(node)}: ${what.split("\n")[0]}`)),
      h("p", { class: "tools" },
        run.rows.length ? h("button", { "data-part": "play", onclick: () => this.play(run) }, "Play in the graph") : null,
        quiet && touched.length ? h("button", { class: "plain", "data-part": "all", onclick: () => { this.all = !this.all; this.drawRun(); } },
          this.all ? "Only what changed" : `Also ${count(quiet, "node")} found as wanted`) : null));
    if (!run.rows.length) return [head];
    const axis = h("div", { class: "axis", "aria-hidden": "true" }, ...ticks(end, 6).map((at) => {
      const mark = h("span", {}, at === 0 ? "0" : span(at).replace(".00 s", " s").replace(".0 ms", " ms"));
      mark.style.left = `${(at / end) * 100}%`;
      return mark;
    }));
    const chart = h("div", { class: "gantt" }, axis,
      h("ol", { "aria-label": `Timeline of ${count(rows.length, "node")}` }, ...rows.map((row) => bar(row, end, critical.has(row.node)))));
    const legend = h("p", { class: "legend phases" }, ...PHASES.map(([id, text]) => h("span", {}, h("i", { class: `bar ${id}` }), text)),
      critical.size ? h("span", {}, h("b", { class: "critical-mark" }, "▸"), h("i", { class: "bar provision critical" }), `critical path: ${names([...critical].map(plain), 9)}`) : null);
    return [head, chart, legend];
  }
}

function bar(row, end, critical) {
  const track = h("div", { class: "track" }, ...row.phases.map((phase) => {
    const piece = h("i", { class: `bar ${phase.kind}` });
    piece.style.left = `${(phase.start_ms / end) * 100}%`;
    piece.style.width = `${((phase.end_ms - phase.start_ms) / end) * 100}%`;
    return piece;
  }));
  const start = row.phases[0]?.start_ms;
  const took = start === undefined ? "" : span(row.phases.at(-1).end_ms - start);
  const parts = row.phases.map((phase) => `${PHASES.find(([id]) => id === phase.kind)[1]} ${span(phase.end_ms - phase.start_ms)}`).join(", ");
  const bad = row.outcome === "failed" || row.outcome === "skipped";
  return h("li", { "data-critical": critical, "data-kind": bad ? "bad" : "", title: start === undefined ? null : `from ${span(start)}: ${parts}` },
    h("span", { class: "name" }, critical ? h("b", { class: "critical-mark", "aria-label": "critical:" }, "▸") : null, plain(row.node)),
    track,
    h("span", { class: "took" }, bad ? row.outcome : took, row.attempts > 1 ? h("small", {}, ` ${row.attempts} attempts`) : null));
}

function outcome(run) {
  if (run.command === "drift") return "drifted";
  if (run.outcome === null) return "starting";
  return { failed: "failed", cancelled: "skipped" }[run.outcome] || (run.command === "down" ? "down" : "ready");
}

/** `Healed redis-cache`; what broke says more than what was touched. */
export function about(run) {
  const verb = VERBS[run.command] || run.command;
  const causes = [...new Set(run.causes.map(([node]) => plain(node)))];
  if (causes.length) return `${run.outcome === "failed" ? "Could not heal" : verb} ${names(causes, 2)}`;
  const services = run.changed.filter((node) => node.startsWith("service:")).map(plain);
  if (run.command === "replay") return `${verb} ${names(services.length ? services : run.changed, 2) || "nothing"}`;
  if (run.command === "up" && run.outcome === "unchanged") return "Found everything as wanted";
  if (run.command === "rotate") return run.changed.length ? `${verb}: ${names(run.changed.map(plain), 2)}` : verb;
  return `${verb} ${count(run.nodes, "node")}`;
}

function result(run) {
  if (run.command === "drift") return "It was told of and left as it is.";
  if (run.outcome === null) return "No end is recorded.";
  const took = span(run.seconds * 1000);
  if (run.failed.length) return `Failed after ${took}: ${names(run.failed.map(plain))}${run.skipped.length ? `; skipped: ${names(run.skipped.map(plain))}` : ""}.`;
  const touched = run.changed.length ? `${count(run.changed.length, "node")} changed` : "Nothing had to change";
  return `${touched} in ${took}${run.outcome === "cancelled" ? ", then it was interrupted" : ""}.`;
}
