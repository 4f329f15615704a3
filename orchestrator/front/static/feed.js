// The stream of journal records: connected while somebody looks, and again after a loss.

const SILENCE_MS = 12_000; // the server sends a beat every 4 s
const AGAIN_MS = [300, 600, 1000, 2000];
const HIDDEN_MS = 20_000; // a browser has six connections to a host for all of its tabs

export class Feed {
  /** `handlers`: record(record), reset(), lost(), back() → promise; called in this order of events. */
  constructor(handlers) {
    this.handlers = handlers;
    this.id = "";
    this.tries = 0;
    this.isLost = false;
    document.addEventListener("visibilitychange", () => this.turned());
  }

  start(last) {
    this.open(`last=${last}`);
  }

  turned() {
    clearTimeout(this.hiding);
    if (document.hidden) this.hiding = setTimeout(() => this.close(), HIDDEN_MS);
    else if (!this.source && !this.again) this.resume();
  }

  open(query) {
    this.close();
    this.source = new EventSource(`/api/events?${query}`);
    this.source.addEventListener("message", (event) => {
      this.id = event.lastEventId;
      this.heard();
      this.handlers.record(JSON.parse(event.data));
    });
    this.source.addEventListener("beat", () => this.heard());
    this.source.addEventListener("reset", () => {
      this.heard();
      this.handlers.reset();
    });
    this.source.addEventListener("error", () => this.lose());
    this.watch();
  }

  heard() {
    this.tries = 0;
    this.watch();
  }

  watch() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lose(), SILENCE_MS);
  }

  close() {
    clearTimeout(this.silence);
    clearTimeout(this.again);
    this.again = undefined;
    this.source?.close();
    this.source = undefined;
  }

  lose() {
    this.close();
    if (!this.isLost) this.handlers.lost();
    this.isLost = true;
    const pause = AGAIN_MS[Math.min(this.tries, AGAIN_MS.length - 1)];
    this.tries += 1;
    this.again = setTimeout(() => this.resume(), pause);
  }

  async resume() {
    this.again = undefined;
    try {
      await this.handlers.back(); // the page reads everything anew before it goes on
    } catch {
      this.lose();
      return;
    }
    this.isLost = false;
    this.open(this.id ? `after=${encodeURIComponent(this.id)}` : "last=0");
  }
}

/** A document of the server; throws where there is none. */
export async function get(path) {
  try {
    const response = await fetch(path, { signal: AbortSignal.timeout(15_000) });
    if (response.ok) return await response.json();
    throw new Unanswered(`${path}: ${response.status}`);
  } catch (error) {
    throw new Unanswered(`${path}: ${error.message}`);
  }
}

/** The supervisor did not answer as it should. */
class Unanswered extends Error {}

/** Calls again and again while `element` is on the screen and the page is looked at. */
export function whileSeen(element, every_ms, work) {
  let seen = false;
  let timer;
  async function turn() {
    clearTimeout(timer);
    if (!seen || document.hidden) return;
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error; // the feed says that the connection is lost
    }
    clearTimeout(timer);
    timer = setTimeout(turn, every_ms);
  }
  new IntersectionObserver(([entry]) => {
    const was = seen;
    seen = entry.isIntersecting;
    if (seen && !was) turn();
  }, { rootMargin: "200px" }).observe(element);
  document.addEventListener("visibilitychange", turn);
  return turn;
}
