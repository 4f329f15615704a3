// The network as the kernel has it: the host, its bridges, and what hangs on each port.

import { byId, h, keepFocus, sign } from "./dom.js";
import { get } from "./feed.js";

let drawn = "";

export async function drawNetwork() {
  const network = await get("/api/topology");
  const text = JSON.stringify(network);
  if (text === drawn) return;
  drawn = text;
  const box = byId("network-body");
  keepFocus(box, "part", () => box.replaceChildren(
    lacks(network),
    h("div", { class: "net" }, host(network), h("div", { class: "bridges" }, ...network.bridges.map((bridge) => wires(network, bridge))))));
}

function lacks(network) {
  if (!network.lacks.length) return "";
  return h("ul", { class: "lacks" }, ...network.lacks.map((lack) => h("li", { "data-kind": "bad" }, sign("drifted", 14), `${lack.node.replace(/^service:/, "")}: ${lack.text}`)));
}

function fact(good, ...text) {
  return h("li", { "data-kind": good ? "good" : "bad" }, sign(good ? "ready" : "failed", 12), h("span", {}, ...text));
}

function host(network) {
  const own = network.interfaces.filter((each) => each.kind !== "loopback");
  return h("div", { class: "host card" },
    h("h3", {}, network.host || "this host", network.host ? h("span", { class: "of" }, " network namespace") : null),
    h("ul", {},
      ...own.map((each) => fact(each.up && each.carrier, `${each.name}  ${each.addresses.join(" ") || "no address"}`)),
      ...network.routes.map((route) => h("li", { class: "soft" }, route)),
      fact(network.forwarding, network.forwarding ? "forwards packets" : "does not forward packets")),
    ...network.published.map((each) => h("p", { class: "published" }, h("b", {}, `:${each.port}`), ` → ${labelAt(network, each.address)}`, h("span", { class: "soft" }, ` ${each.address}:${each.to}${each.ours ? "" : " foreign"}`))));
}

function labelAt(network, address) {
  const found = network.places.find((place) => place.interfaces.some((each) => each.addresses.some((one) => one.split("/")[0] === address)));
  return found?.label || "nobody";
}

function wires(network, bridge) {
  const up = bridge.state === "up";
  return h("div", { class: "bridge" },
    h("h3", { "data-kind": up ? "good" : "bad" }, sign(up ? "ready" : "failed", 14), bridge.name, h("span", { class: "of" }, ` bridge ${bridge.addresses.join(" ") || "without address"}${up ? "" : ` ${bridge.state}`}`)),
    h("ol", {}, ...bridge.ports.map((port) => wire(network, port))));
}

function wire(network, port) {
  const good = port.state === "forwarding";
  const place = network.places.find((each) => each.label === port.place);
  return h("li", { "data-kind": good ? "good" : "bad" },
    h("div", { class: "port" }, sign(good ? "ready" : "failed", 12), port.name, good ? null : h("span", { class: "state" }, ` ${port.state}`)),
    place ? card(place) : h("div", { class: "card" }, port.interface ? `${port.interface} on the host` : port.kind));
}

function card(place) {
  const programs = new Map();
  for (const each of place.listeners) {
    const where = ["0.0.0.0", "::"].includes(each.address) ? String(each.port) : `${each.address}:${each.port}`;
    programs.set(each.program, (programs.get(each.program) || new Set()).add(where));
  }
  return h("div", { class: "card", "data-kind": place.state === "live" ? "" : "bad" },
    h("h4", {}, place.label, place.state === "live" ? null : h("span", { class: "state" }, ` ${place.state}`)),
    h("div", { class: "lists" }, h("ul", {},
      ...place.interfaces.map((each) => fact(each.up && each.carrier && each.addresses.length, `${each.name}  ${each.addresses.join(" ") || "no address"}`, each.up && each.carrier ? "" : each.up ? " no carrier" : " down")),
      ...place.routes.map((route) => h("li", { class: "soft" }, route))),
    h("ul", {}, ...[...programs].map(([program, where]) => h("li", {}, h("span", {}, h("b", {}, `:${[...where].join(" :")}`), ` ${program}`))))));
}
