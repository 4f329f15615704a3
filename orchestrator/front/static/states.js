// States of nodes: their words, signs and kinds, and how events lead from one to the next.

// kind: good, work (on its way), bad, idle
const STATES = {
  ready: ["ready", "good"],
  pending: ["waiting", "idle"],
  queued: ["waiting for a slot", "work"],
  starting: ["starting", "work"],
  probing: ["proving that it is ready", "work"],
  backoff: ["trying again soon", "work"],
  stopping: ["stopping", "work"],
  failed: ["failed", "bad"],
  drifted: ["not as wanted", "bad"],
  foreign: ["somebody else's", "bad"],
  skipped: ["skipped", "bad"],
  cancelled: ["cancelled", "idle"],
  down: ["not there", "idle"],
  stopped: ["not there", "idle"],
  unknown: ["not asked yet", "idle"],
};
const SIGNS = { cancelled: "skipped", stopped: "down" };

export const word = (state) => (STATES[state] || [state])[0];
export const kind = (state) => (STATES[state] || ["", "idle"])[1];
export const signOf = (state) => SIGNS[state] || (state in STATES ? state : "unknown");

/** The state after one more record. A look that finds all as wanted changes nothing. */
export function after(was, record) {
  switch (record.event) {
    case "StepQueued":
    case "StepProvisioned": {
      if (was === "ready") return was;
      return record.event === "StepQueued" ? "queued" : "probing";
    }
    case "StepStarted":
      return record.action === "remove" ? "stopping" : "starting";
    case "StepRetried":
      return "backoff";
    case "DriftFound":
      return "drifted";
    case "StepFinished":
      if (record.outcome !== "changed" && record.outcome !== "unchanged") return record.outcome;
      return record.action === "remove" ? "down" : "ready";
    default:
      return was;
  }
}

const PHASES = { wait: "queued", work: "starting", proof: "probing", backoff: "backoff" };

/** A node's state at a time of a finished run; `row` is what the run did to it, if anything. */
export function during(run, row, node, ms) {
  const building = run.command !== "down";
  const causes = run.causes.some(([name]) => name === node);
  let before = building && run.command !== "up" ? (causes ? "drifted" : "ready") : building ? "pending" : "ready";
  if (!row) return before;
  if (row.outcome === "unchanged" && building) before = "ready";
  for (const phase of row.phases) {
    if (ms < phase.start_ms) return before;
    if (ms < phase.end_ms) {
      if (row.outcome === "unchanged" && building) return "ready";
      return phase.kind === "work" && !building ? "stopping" : PHASES[phase.kind];
    }
  }
  const end = row.phases.at(-1)?.end_ms ?? 0;
  if (ms < end) return before;
  if (row.outcome === null) return "cancelled";
  if (row.outcome === "changed" || row.outcome === "unchanged") return building ? "ready" : "down";
  return row.outcome;
}

/** One sentence on everything. */
export function headline(states, names, plain) {
  const list = [...states];
  const total = list.length;
  const of = (wanted) => list.filter(([, state]) => kind(state) === wanted).map(([node]) => plain(node));
  const bad = of("bad");
  const work = of("work");
  const ready = list.filter(([, state]) => state === "ready").length;
  if (!total) return "Nothing is known yet.";
  if (ready === total) return "Everything is ready.";
  if (bad.length === 1) {
    const [, state] = list.find(([, each]) => kind(each) === "bad");
    return `${bad[0]} is ${word(state)}.`;
  }
  if (bad.length) return `${names(bad)} are not ready.`;
  if (work.length === 1 && ready === total - 1) {
    const [, state] = list.find(([, each]) => kind(each) === "work");
    return `${work[0]} is ${word(state)}.`;
  }
  if (!ready && !work.length) return "Nothing is up.";
  return `${ready} of ${total} nodes are ready.`;
}
