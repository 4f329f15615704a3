// Commands to copy, and links to what else looks at the lab.

import { byId, h } from "./dom.js";

/** A command line of ours for this lab. */
export function command(about, verb, ...words) {
  const [first, ...flags] = verb.split(" ");
  return ["orchestrator", first, about?.options, ...flags, ...words].filter(Boolean).join(" ");
}

/** A command with a button that copies it. */
export function copyable(text) {
  const button = h("button", { class: "copy", "aria-label": `Copy: ${text}`, onclick: copy }, "copy");
  let timer;
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code); // no clipboard: chosen, for the keyboard
      button.textContent = "chosen";
    }
    clearTimeout(timer);
    timer = setTimeout(() => { button.textContent = "copy"; }, 1500);
  }
  const code = h("code", {}, text);
  return h("div", { class: "copyable" }, code, button);
}

export function drawHand(about) {
  const prefix = about.host ? `ip netns exec ${about.host} ` : "";
  const port = about.published[0]?.port;
  const groups = [
    ["Look", [command(about, "status --all"), command(about, "events --follow"), command(about, "verify")]],
    ["Ask", port ? [`${prefix}curl http://localhost:${port}/health`, `${prefix}curl http://localhost:${port}/api/products`] : []],
    ["Rebuild", [command(about, "replay --dry-run", "gateway"), command(about, "replay", "gateway")]],
    ["Break, and see it heal", [`${prefix}ip link delete veth-redis-br`, `${prefix}iptables -t nat -F`]],
  ];
  const shop = about.stack === "shop"; // what the other commands name
  byId("hand-body").replaceChildren(
    h("div", { class: "hand" }, ...groups.filter(([name, list]) => list.length && (shop || name === "Look")).map(([name, list]) =>
      h("div", {}, h("h3", {}, name), ...list.map(copyable)))),
    h("p", { class: "links" },
      h("a", { href: "/metrics" }, "Metrics"),
      about.prometheus ? h("a", { href: about.prometheus }, "Prometheus") : null,
      about.grafana ? h("a", { href: about.grafana }, "Grafana") : null,
      h("a", { href: "/api/status" }, "Status as JSON"),
      h("a", { href: "/api/topology" }, "Network as JSON")));
}
