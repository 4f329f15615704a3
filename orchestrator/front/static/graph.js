// The graph as it is now, or as it was at a moment of a run; as a drawing or as a list.

import { along, byId, h, keepFocus, roving, s, say, sign } from "./dom.js";
import { clock, plain, span } from "./format.js";
import { during, kind, signOf, word } from "./states.js";

const VIEWS = [["services", "Services"], ["everything", "Everything"], ["list", "List"]];
const NARROW = matchMedia("(max-width: 760px)");
const LONGEST_MS = 9000; // a run that took longer is played faster

export class GraphView {
  /** `model`: the page's facts; `select(name)` is called with a node. */
  constructor(model, select) {
    this.model = model;
    this.select = select;
    this.view = NARROW.matches ? "list" : "everything";
    this.run = null; // what is played, null: now
    this.at = 0;
    this.drawn = new Map(); // node → what shows it
    this.tabs();
    roving(byId("canvas"), "[data-node]", (key, here, items) => this.go(key, here, items));
  }

  tabs() {
    const tabs = VIEWS.map(([id, text]) => h("button", {
      role: "tab", id: `view-${id}`, "data-view": id, "aria-controls": "canvas",
      onclick: () => this.show(id),
    }, text));
    byId("views").append(...tabs);
    roving(byId("views"), "[role=tab]", (key, here, items) => {
      const next = along(key, here, items);
      if (next) this.show(next.dataset.view);
      return next;
    });
    this.mark();
  }

  mark() {
    for (const tab of byId("views").children) {
      const chosen = tab.dataset.view === this.view;
      tab.setAttribute("aria-selected", String(chosen));
      tab.setAttribute("tabindex", chosen ? "0" : "-1");
    }
    byId("canvas").setAttribute("aria-labelledby", `view-${this.view}`);
  }

  show(view) {
    this.view = view;
    this.mark();
    this.draw();
  }

  /** Everything anew. */
  draw() {
    const canvas = byId("canvas");
    if (!this.model.graph) return;
    this.drawn.clear();
    keepFocus(canvas, "node", () => {
      canvas.replaceChildren(this.view === "list" ? this.list() : this.picture());
    });
    const first = canvas.querySelector("[data-node][tabindex='0']") || canvas.querySelector("[data-node]");
    first?.setAttribute("tabindex", "0");
    this.chosen();
    for (const name of this.model.states.keys()) this.update(name);
    this.player();
  }

  picture() {
    const { width, height, nodes, edges } = this.model.graph.views[this.view];
    const tip = s("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 6.5, markerHeight: 6.5, markerUnits: "userSpaceOnUse", orient: "auto" },
      s("path", { d: "M0 .5L8 4 0 7.500z", class: "tip" }));
    const picture = s("svg", { class: "graph", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Dependency graph; arrow keys go along it, Enter shows a node" },
      s("defs", {}, tip),
      ...edges.map((edge) => s("path", { d: edge.path, class: `edge ${edge.condition}`, "marker-end": "url(#tip)", "data-need": edge.need, "data-name": edge.name })),
      ...nodes.map((node) => this.box(node)));
    picture.style.setProperty("--full", `${width}px`);
    return picture;
  }

  box(node) {
    const state = s("use", { x: 10, y: (node.height - 16) / 2, width: 16, height: 16, class: "sign" });
    const took = s("text", { x: node.width - 9, y: 18, class: "took" });
    const group = s("g", {
      class: "node", role: "button", tabindex: "-1", "data-node": node.name, "data-x": node.x, "data-y": node.y,
      transform: `translate(${node.x} ${node.y})`,
      onclick: () => this.select(node.name),
      onkeydown: (event) => this.pressed(event, node.name),
      onpointerenter: () => this.near(node.name),
      onpointerleave: () => this.near(null),
      onfocus: () => this.near(node.name),
      onblur: () => this.near(null),
    },
      s("rect", { class: "flash", x: -4, y: -4, width: node.width + 8, height: node.height + 8, rx: 9 }),
      s("rect", { class: "body", width: node.width, height: node.height, rx: 6 }),
      state,
      s("text", { x: 34, y: 18, class: "of" }, node.kind || node.layer),
      s("text", { x: 34, y: 35, class: "name" }, node.short),
      took);
    this.drawn.set(node.name, { element: group, show: (now) => {
      state.setAttribute("href", `#g-${signOf(now)}`);
      say(took, this.took(node.name, now));
    } });
    return group;
  }

  list() {
    const groups = this.model.graph.layers.map((layer) => {
      const nodes = this.model.graph.nodes.filter((node) => node.layer === layer);
      return h("div", { class: "layer" }, h("h3", {}, layer), h("ul", {}, ...nodes.map((node) => h("li", {}, this.line(node)))));
    });
    return h("div", { class: "list" }, ...groups);
  }

  line(node) {
    const mark = sign("unknown");
    const state = h("span", { class: "state" });
    const took = h("span", { class: "took" });
    const button = h("button", { class: "line", tabindex: "-1", "data-node": node.name, onclick: () => this.select(node.name) },
      mark, h("span", { class: "name" }, h("span", { class: "of" }, node.kind ? `${node.kind} ` : ""), node.short), state, took);
    this.drawn.set(node.name, { element: button, show: (now) => {
      mark.firstChild.setAttribute("href", `#g-${signOf(now)}`);
      say(state, word(now));
      say(took, this.took(node.name, now));
    } });
    return button;
  }

  took(name, state) {
    if (state !== "ready") return "";
    const row = this.run?.rows.find((each) => each.node === name);
    if (row?.phases.length) return span(row.phases.at(-1).end_ms - row.phases[0].start_ms);
    const after = this.model.facts.get(name)?.ready_after_s;
    return this.run || after === null || after === undefined ? "" : span(after * 1000);
  }

  pressed(event, name) {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    this.select(name);
  }

  /** Arrow keys: up and down in a column, left and right to what is nearest in the next one. */
  go(key, here, items) {
    if (this.view === "list") return along(key, here, items);
    const at = (item) => [Number(item.dataset.x), Number(item.dataset.y)];
    const [x, y] = at(here);
    const side = { ArrowLeft: -1, ArrowRight: 1 }[key];
    const up = { ArrowUp: -1, ArrowDown: 1 }[key];
    const rest = items.filter((item) => {
      const [otherX, otherY] = at(item);
      return side ? Math.sign(otherX - x) === side : up && otherX === x && Math.sign(otherY - y) === up;
    });
    const far = (item) => {
      const [otherX, otherY] = at(item);
      return side ? Math.abs(otherX - x) * 100 + Math.abs(otherY - y) : Math.abs(otherY - y);
    };
    return rest.sort((one, other) => far(one) - far(other))[0];
  }

  /** Shows what hangs together with a node. */
  near(name) {
    const shown = name || this.model.selected;
    const canvas = byId("canvas");
    canvas.toggleAttribute("data-near", Boolean(shown));
    const family = shown ? this.model.family(shown) : new Set();
    for (const [each, { element }] of this.drawn) element.toggleAttribute("data-kin", family.has(each));
    for (const edge of canvas.querySelectorAll(".edge")) {
      edge.toggleAttribute("data-kin", family.has(edge.dataset.need) && family.has(edge.dataset.name));
    }
  }

  chosen() {
    for (const [name, { element }] of this.drawn) {
      element.setAttribute("aria-pressed", String(name === this.model.selected));
    }
    this.near(null);
  }

  stateOf(name) {
    if (!this.run) return this.model.states.get(name) || "unknown";
    return during(this.run, this.run.rows.find((row) => row.node === name), name, this.at);
  }

  /** One node's state, with a flash where it has changed before one's eyes. */
  update(name) {
    const found = this.drawn.get(name);
    if (!found) return;
    const now = this.stateOf(name);
    const { element } = found;
    found.show(now);
    if (element.dataset.state === now) return;
    const before = element.dataset.state;
    element.dataset.state = now;
    element.dataset.kind = kind(now);
    element.setAttribute("aria-label", `${plain(name)}: ${word(now)}`);
    if (before && !this.run) {
      element.classList.remove("changed");
      void element.getBoundingClientRect(); // begins the flash anew
      element.classList.add("changed");
    }
  }

  // -- playing a run ---------------------------------------------------------------------

  player() {
    const player = byId("player");
    const run = this.run || this.model.lastUp;
    if (!run) return player.replaceChildren();
    keepFocus(player, "part", () => {
      const end = run.ends_ms;
      const range = h("input", { type: "range", min: 0, max: Math.ceil(end), step: 1, value: this.run ? this.at : Math.ceil(end), "data-part": "range", "aria-label": "Moment of the run" });
      range.addEventListener("input", () => this.seek(run, Number(range.value)));
      const button = this.playing
        ? h("button", { "data-part": "play", onclick: () => this.pause() }, "Pause")
        : h("button", { "data-part": "play", onclick: () => this.play(run) }, this.run ? "Play" : "Play the last start");
      player.replaceChildren(button, range,
        h("output", { class: "moment" }, this.moment(run)),
        h("button", { class: "plain", "data-part": "now", hidden: !this.run, onclick: () => this.now() }, "Back to now"));
      this.describe();
    });
    return undefined;
  }

  moment(run) {
    if (!this.run) return "now";
    return `${span(this.at)} of ${span(run.ends_ms)}, ${run.command} at ${clock(run.at_ms)}`;
  }

  describe() {
    const range = byId("player").querySelector("input");
    const text = this.moment(this.run || this.model.lastUp);
    range?.setAttribute("aria-valuetext", text);
    say(byId("player").querySelector(".moment"), text);
    byId("graph").toggleAttribute("data-past", Boolean(this.run));
  }

  seek(run, ms) {
    const before = this.run;
    this.stop();
    this.run = run;
    this.at = ms;
    this.repaint();
    if (before) this.describe();
    else this.player();
  }

  play(run) {
    this.stop();
    if (this.run !== run || this.at >= run.ends_ms) this.at = 0;
    this.run = run;
    const speed = Math.max(1, run.ends_ms / LONGEST_MS);
    let last = performance.now();
    const turn = (now) => {
      this.at = Math.min(run.ends_ms, this.at + (now - last) * speed);
      last = now;
      this.repaint();
      const range = byId("player").querySelector("input");
      if (range) range.value = String(Math.ceil(this.at));
      this.describe();
      if (this.at >= run.ends_ms) {
        this.playing = undefined;
        this.player();
      } else {
        this.playing = requestAnimationFrame(turn);
      }
    };
    this.playing = requestAnimationFrame(turn);
    this.player();
  }

  pause() {
    this.stop();
    this.player();
  }

  stop() {
    if (this.playing) cancelAnimationFrame(this.playing);
    this.playing = undefined;
  }

  now() {
    this.stop();
    this.run = null;
    this.repaint();
    this.player();
    byId("player").querySelector("[data-part=play]")?.focus();
  }

  repaint() {
    for (const name of this.drawn.keys()) this.update(name);
  }
}
