// The page: reads what is there, then follows the journal.

import { drawDetail } from "./detail.js";
import { byId, say } from "./dom.js";
import { addEvent, clearEvents } from "./events.js";
import { Feed, get, whileSeen } from "./feed.js";
import { ago, clock, count, names, plain, span } from "./format.js";
import { GraphView } from "./graph.js";
import { drawHand } from "./hand.js";
import { drawNetwork } from "./network.js";
import { drawPath } from "./path.js";
import { about as runAbout, Runs } from "./runs.js";
import { after, headline, kind } from "./states.js";

const HISTORY = 400; // records of the journal's end to begin with
const STATUS_MS = 5000;
const WELCOME_MS = 6000;
const SETTLE_MS = 250; // a run tells much at once: one look for all of it

const model = {
  about: null,
  graph: null,
  lastUp: null,
  selected: null,
  seq: -1, // records up to this one are in `states`
  supervisor: null,
  states: new Map(), // node → state
  facts: new Map(), // node → its row of `status`
  told: new Map(), // node → number of the last record that told of it
  /** A node with everything that it waits for, and that waits for it. */
  family(name) {
    const found = new Set([name]);
    const needs = new Map(this.graph.nodes.map((node) => [node.name, Object.keys(node.needs)]));
    const up = (each) => needs.get(each)?.forEach((need) => { if (!found.has(need)) { found.add(need); up(need); } });
    up(name);
    const grow = (each) => needs.forEach((list, node) => { if (list.includes(each) && !found.has(node)) { found.add(node); grow(node); } });
    grow(name);
    return found;
  },
};

const view = new GraphView(model, select);
const runs = new Runs((run) => {
  byId("graph").scrollIntoView();
  view.play(run);
});

function select(name) {
  model.selected = name === model.selected ? null : name;
  view.chosen();
  drawDetail(model, select);
}

// -- reading ------------------------------------------------------------------------------

async function readAll() {
  const [about, graph, status] = await Promise.all([get("/api/about"), get("/api/graph"), get("/api/status")]);
  const other = model.about && model.about.digest !== about.digest;
  model.about = about;
  if (!model.graph || other || JSON.stringify(graph) !== JSON.stringify(model.graph)) {
    model.graph = graph;
    model.states.clear();
    model.facts.clear();
    apply(status);
    view.draw();
  } else {
    apply(status);
  }
  drawHand(about);
  say(byId("lab"), about.lab);
  await readRuns();
}

async function readStatus() {
  apply(await get("/api/status"));
}

/** What was observed wins, unless the journal has told of the node since. */
function apply(status) {
  model.supervisor = status.supervisor;
  model.seq = Math.max(model.seq, status.seq);
  for (const row of status.nodes) {
    model.facts.set(row.node, row);
    if ((model.told.get(row.node) ?? -1) <= status.seq) set(row.node, row.state);
    else view.update(row.node);
  }
  drawDetail(model, select);
  sayAll();
}

async function readRuns() {
  await runs.load();
  const known = model.lastUp?.id;
  const newest = runs.list.find((run) => run.command === "up" && run.outcome === "changed");
  if (newest?.id !== known) model.lastUp = await runs.lastUp();
  if (!view.playing) view.player();
  sayAll();
}

function set(node, state) {
  if (model.states.get(node) === state) return;
  model.states.set(node, state);
  view.update(node);
}

// -- saying -------------------------------------------------------------------------------

let announcing;

function sayAll() {
  const text = headline(model.states, names, plain);
  const before = byId("headline").textContent;
  say(byId("headline"), text);
  const kinds = new Set([...model.states.values()].map(kind));
  byId("headline").dataset.kind = kinds.has("bad") ? "bad" : kinds.has("work") ? "work" : text === "Everything is ready." ? "good" : "idle";
  document.title = `${text.replace(/\.$/, "")} – ${model.about?.lab || "orchestrator"}`;
  sayBy();
  if (before === text) return;
  clearTimeout(announcing);
  announcing = setTimeout(() => say(byId("said"), byId("headline").textContent), 400);
}

function sayBy() {
  if (!model.graph) return;
  const services = model.graph.nodes.filter((node) => node.kind === "service").length;
  const parts = [`${count(model.states.size, "node")}, ${count(services, "service")}`];
  if (model.lastUp) parts.push(`brought up ${clock(model.lastUp.at_ms)} in ${span(model.lastUp.ends_ms)}`);
  const last = runs.list.find((run) => run.command === "heal" || run.command === "replay");
  if (last) {
    const text = runAbout(last);
    parts.push(`${text[0].toLowerCase()}${text.slice(1)} ${ago(last.at_ms)}${last.seconds === null ? "" : `, in ${span(last.seconds * 1000)}`}`);
  }
  if (model.supervisor) parts.push(`supervisor ${model.supervisor}`);
  say(byId("byline"), parts.join(" · "));
}

function link(state, text) {
  byId("link").dataset.link = state;
  say(byId("link"), text);
}

// -- following ----------------------------------------------------------------------------

let looking;
let welcome;

function lookSoon(withRuns) {
  looking = { runs: withRuns || looking?.runs, timer: looking?.timer };
  clearTimeout(looking.timer);
  looking.timer = setTimeout(async () => {
    const wanted = looking.runs;
    looking = undefined;
    try {
      await readStatus();
      if (wanted) await readRuns();
      drawNetworkNow();
    } catch {
      // The feed says that the connection is lost.
    }
  }, SETTLE_MS);
}

const feed = new Feed({
  record(record) {
    addEvent(record);
    link("live", "live");
    if (record.seq <= model.seq) return;
    model.seq = record.seq;
    if (record.node && model.states.has(record.node)) {
      model.told.set(record.node, record.seq);
      set(record.node, after(model.states.get(record.node), record));
      sayAll();
    }
    if (record.event === "RunStarted" || record.event === "RunFinished" || record.event === "DriftFound") lookSoon(true);
  },
  reset() {
    clearEvents();
    model.seq = -1;
    model.told.clear();
    readAll().catch(() => {});
  },
  lost() {
    link("lost", "not connected");
    const lost = byId("lost");
    clearTimeout(welcome);
    lost.classList.remove("back");
    lost.hidden = false;
    say(lost, `No connection to the supervisor since ${clock(Date.now())}. What you see is from then. Trying again…`);
  },
  async back() {
    const before = model.supervisor;
    const lost = byId("lost");
    const was = !lost.hidden;
    await readAll();
    link("live", "live");
    if (!was) return;
    lost.classList.add("back");
    say(lost, model.supervisor === before ? "Connected again." : `Connected again. A new supervisor is there, process ${model.supervisor}.`);
    welcome = setTimeout(() => { lost.hidden = true; }, WELCOME_MS);
  },
});

const drawNetworkNow = whileSeen(byId("network"), 4000, drawNetwork);
whileSeen(byId("path"), 1000, drawPath);

async function start() {
  try {
    await readAll();
  } catch {
    feed.handlers.lost();
    setTimeout(start, 1000);
    return;
  }
  byId("lost").hidden = true;
  link("live", "live");
  feed.start(HISTORY);
  setInterval(() => { if (!document.hidden && !feed.isLost) readStatus().catch(() => {}); }, STATUS_MS);
}

start();
