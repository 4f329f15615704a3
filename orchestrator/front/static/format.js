// Numbers and times for people.

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

/** `14:03:07`, with the day before it where that is not today. */
export function clock(ms) {
  const then = new Date(ms);
  const today = new Date().toDateString() === then.toDateString();
  return today ? CLOCK.format(then) : `${DAY.format(then)} ${CLOCK.format(then)}`;
}

/** `0.34 ms`, `108 ms`, `2.06 s`, `3 min 7 s`, `2 h 5 min`. */
export function span(ms) {
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** `just now`, `40 s ago`, `12 min ago`. */
export function ago(ms) {
  const seconds = Math.max(0, (Date.now() - ms) / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

/** Milliseconds of one hop: three digits that count. */
export function fine(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : String(Math.round(ms));
}

export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return "–";
  return perSecond < 10 ? perSecond.toFixed(1) : Math.round(perSecond).toLocaleString("en");
}

export function share(ratio) {
  if (!ratio) return "0 %";
  return ratio < 0.001 ? "< 0.1 %" : `${(ratio * 100).toFixed(1)} %`;
}

export const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

/** `a`, `a and b`, `a, b and 3 more`. */
export function names(list, most = 3) {
  const shown = list.slice(0, list.length > most ? most - 1 : most);
  const more = list.length - shown.length;
  const parts = more ? [...shown, `${more} more`] : shown;
  return parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

/** A service goes by its own name, everything else with its kind. */
export const plain = (node) => node.replace(/^service:/, "");

/** Steps for an axis: 1, 2 or 5 times a power of ten, at most `most` of them. */
export function ticks(end, most) {
  const rough = end / most;
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough) || 1;
  const found = [];
  for (let at = 0; at <= end + step / 1e6; at += step) found.push(at);
  return found;
}
