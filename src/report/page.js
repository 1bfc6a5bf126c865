"use strict";
// The page's data: see `src/report/data.rs`.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const BRANCHES = ["q", "k", "v"];
const SVG = "http://www.w3.org/2000/svg";

// ---------------------------------------------------------------- state

const nodes = data.nodes;
const edges = data.edges.map(([from, to, branch, score, path, first, cost, stability], index) => ({
  index, from, to, branch, score, path: new Path2D(path), ...shapeOf(path), first, cost,
  interval: stability ? stability.slice(0, 2) : null, selected: stability ? stability[2] : null,
  strength: data.largest > 0 ? Math.min(1, Math.abs(score) / data.largest) : 1,
}));
edges.sort((a, b) => a.strength - b.strength);
const named = (edge) =>
  `${nodes[edge.from].name}->${nodes[edge.to].name}${edge.branch < 0 ? "" : `<${BRANCHES[edge.branch]}>`}`;
const leaving = nodes.map(() => []), entering = nodes.map(() => []);
for (const edge of edges) { leaving[edge.from].push(edge); entering[edge.to].push(edge); }
const state = { stop: data.circuit, hover: null, chosen: null, view: { x: 0, y: 0, scale: 1 } };
const shown = (edge) => edge.first <= state.stop;

/// The smallest rectangle around a path of absolute commands, and its end.
function shapeOf(path) {
  let [x, y] = [0, 0];
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [, command, numbers] of path.matchAll(/([MVHLC])([^MVHLC]*)/g)) {
    const values = numbers.trim().split(/\s+/).map(Number);
    const points = command === "V" ? [[x, values[0]]] : command === "H" ? [[values[0], y]] : [];
    if (!points.length) for (let i = 0; i < values.length; i += 2) points.push([values[i], values[i + 1]]);
    for (const [px, py] of points) {
      box[0] = Math.min(box[0], px); box[1] = Math.min(box[1], py);
      box[2] = Math.max(box[2], px); box[3] = Math.max(box[3], py);
    }
    [x, y] = points[points.length - 1];
  }
  return { box, tip: [x, y] };
}

// ---------------------------------------------------------------- the stage

const stage = byId("stage"), overlay = byId("nodes"), world = byId("world"), tip = byId("tip");
const base = byId("edges").getContext("2d"), lit = byId("lit").getContext("2d");

function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

/// Draws edges, weakest first. Edges that look alike are one path: that takes a fraction of the time of one by one.
function strokes(context, list, full) {
  const alike = new Map();
  for (const edge of list) {
    const strength = Math.ceil(edge.strength * 16) / 16, key = `${strength} ${edge.score < 0} ${edge.branch === 2 ? -1 : edge.branch}`;
    if (!alike.has(key)) alike.set(key, { strength, edges: [], path: new Path2D(), heads: new Path2D() });
    const group = alike.get(key);
    group.edges.push(edge);
    group.path.addPath(edge.path);
    const [x, y] = edge.tip, half = Math.min(1.25 + 0.3 * widthOf(strength), 2.1);
    // The head: an arrow, or a bar for a negative score, as in the figure.
    if (edge.score < 0) { group.heads.moveTo(x - half, y + 1.1); group.heads.lineTo(x + half, y + 1.1); }
    else { group.heads.moveTo(x - half, y + 4.6); group.heads.lineTo(x, y + 0.4); group.heads.lineTo(x + half, y + 4.6); group.heads.closePath(); }
  }
  for (const { strength, edges: [{ score, branch }], path, heads } of alike.values()) {
    const width = widthOf(strength), unit = Math.max(width, 0.9);
    const colour = score < 0 ? palette.negative : palette.positive;
    context.strokeStyle = context.fillStyle = colour;
    context.globalAlpha = full ? 1 : 0.35 + 0.65 * Math.sqrt(strength);
    context.lineWidth = width;
    // Dashes too small to be seen cost the most of all.
    const dashed = state.view.scale * unit > 0.45;
    const dashes = branch === 0 ? [2.2 + 1.6 * unit, 1.3 + 0.7 * unit] : branch === 1 ? [0.4 + 0.7 * unit, 0.7 + 0.7 * unit] : [];
    context.setLineDash(dashed ? dashes : []);
    context.stroke(path);
    context.setLineDash([]);
    context.lineWidth = 1.3;
    if (score < 0) context.stroke(heads); else context.fill(heads);
  }
}

const widthOf = (strength) => (data.largest > 0 ? Math.max(0.6, 3 * Math.sqrt(strength)) : 1);

function prepare(context) {
  const { width, height } = stage.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  const canvas = context.canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  }
  const { x, y, scale } = state.view;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
}

let palette = null;
function readPalette() { palette = { positive: colour("--positive"), negative: colour("--negative") }; }

function drawBase() {
  prepare(base);
  const dimmed = focusOf() !== null;
  base.canvas.style.opacity = dimmed ? 0.12 : 1;
  strokes(base, edges.filter(shown), false);
  const { x, y, scale } = state.view;
  world.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
}

const focusOf = () => state.hover ?? state.chosen;

/// Edges on the way from a node to the logits, and those that enter it.
function pathOf(node) {
  const found = new Set(), seen = new Set([node]), queue = [node];
  while (queue.length) {
    for (const edge of leaving[queue.pop()]) {
      if (!shown(edge)) continue;
      found.add(edge);
      if (!seen.has(edge.to)) { seen.add(edge.to); queue.push(edge.to); }
    }
  }
  for (const edge of entering[node]) if (shown(edge)) { found.add(edge); seen.add(edge.from); }
  return { found, seen };
}

function drawLit() {
  prepare(lit);
  const focus = focusOf();
  base.canvas.style.opacity = focus === null ? 1 : 0.12;
  const path = focus === null ? null : pathOf(focus);
  if (path) strokes(lit, edges.filter((edge) => path.found.has(edge)), true);
  const touched = new Set();
  for (const edge of edges) if (shown(edge)) { touched.add(edge.from); touched.add(edge.to); }
  nodes.forEach((node, index) => {
    const away = !(touched.has(index) || node.kind === "end") || (path && !path.seen.has(index));
    node.element.classList.toggle("away", Boolean(away));
    node.element.classList.toggle("chosen", state.chosen === index);
  });
  stage.dataset.lit = path ? path.found.size : 0;
}

let pending = false, pendingBase = false;
function redraw(all) {
  pendingBase ||= all;
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    if (pendingBase) drawBase();
    pendingBase = false;
    drawLit();
  });
}

function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.appendChild(made);
  return made;
}

function buildNodes() {
  for (const { text, y } of data.layers) element("text", { class: "layer", x: 6, y: y + 2.5 }, world).textContent = text;
  nodes.forEach((node, index) => {
    const group = element("g", { class: `node ${node.kind}`, tabindex: 0, role: "button", "aria-label": spoken(index) }, world);
    const [x, y, width, height] = node.at;
    element("rect", { x: x - width / 2, y: y - height / 2, width, height, rx: node.kind === "end" ? height / 2 : node.kind === "mlp" ? 1.5 : 3.5 }, group);
    const label = element("text", { x, y: node.ports.length ? y - 1.8 : y + 2.8 }, group);
    label.textContent = node.name;
    node.ports.forEach(([branch, at]) => {
      element("text", { class: "port", x: at, y: y + height / 2 - 2.6 }, group).textContent = BRANCHES[branch];
    });
    group.addEventListener("pointerenter", () => { state.hover = index; redraw(false); });
    group.addEventListener("pointerleave", () => { state.hover = null; redraw(false); });
    group.addEventListener("focus", () => { if (group.matches(":focus-visible")) { state.hover = index; bringIntoView(index); redraw(false); } });
    group.addEventListener("blur", () => { state.hover = null; redraw(false); });
    group.addEventListener("click", () => choose(index));
    group.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(index); }
      const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (step) { event.preventDefault(); follow(index, step); }
    });
    node.element = group;
  });
}

function spoken(index) {
  const count = (list) => list.filter(shown).length;
  const node = nodes[index];
  return `${node.name}${node.role ? `, ${node.role}` : ""}, ${count(entering[index])} edges in, ${count(leaving[index])} out`;
}

/// To the node at the other end of the strongest edge up or down.
function follow(index, step) {
  const list = (step > 0 ? leaving : entering)[index].filter(shown);
  if (!list.length) return;
  const best = list.reduce((a, b) => (b.strength > a.strength ? b : a));
  nodes[step > 0 ? best.to : best.from].element.focus();
}

// ---------------------------------------------------------------- pan and zoom

function fit() {
  const { width, height } = stage.getBoundingClientRect();
  const scale = Math.min(width / data.width, height / data.height, 2.2);
  state.view = { scale, x: (width - data.width * scale) / 2, y: (height - data.height * scale) / 2 };
  redraw(true);
}

function zoom(factor, x, y) {
  const box = stage.getBoundingClientRect();
  const [cx, cy] = [x ?? box.width / 2, y ?? box.height / 2];
  const view = state.view, scale = Math.min(12, Math.max(0.05, view.scale * factor));
  view.x = cx - ((cx - view.x) * scale) / view.scale;
  view.y = cy - ((cy - view.y) * scale) / view.scale;
  view.scale = scale;
  redraw(true);
}

function bringIntoView(index) {
  const { width, height } = stage.getBoundingClientRect(), view = state.view;
  const [x, y] = nodes[index].at;
  const [px, py] = [view.x + x * view.scale, view.y + y * view.scale];
  if (px < 20 || py < 20 || px > width - 20 || py > height - 20) {
    view.x += width / 2 - px; view.y += height / 2 - py;
    redraw(true);
  }
}

function pointers() {
  let held = null;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => { held = { x: event.clientX, y: event.clientY }; });
  window.addEventListener("pointerup", () => { held = null; stage.classList.remove("dragging"); });
  stage.addEventListener("pointermove", (event) => {
    if (held) {
      stage.classList.add("dragging");
      state.view.x += event.clientX - held.x; state.view.y += event.clientY - held.y;
      held = { x: event.clientX, y: event.clientY };
      tip.hidden = true;
      redraw(true);
      return;
    }
    const box = stage.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    if (state.hover !== null && event.target.closest(".node")) {
      // From afar labels are too small to read.
      const node = nodes[state.hover];
      say(node.role ? `${node.name}, ${node.role}` : node.name, x, y);
    } else point(x, y);
  });
  stage.addEventListener("pointerleave", () => { tip.hidden = true; });
}

/// The edge under the pointer, named in the tip.
function point(x, y) {
  const { view } = state, reach = 3 / view.scale;
  const [wx, wy] = [(x - view.x) / view.scale, (y - view.y) / view.scale];
  lit.save();
  lit.setTransform(1, 0, 0, 1, 0, 0);
  lit.lineWidth = 2 * reach + 1;
  lit.setLineDash([]);
  let best = null;
  for (const edge of edges) {
    const [left, top, right, bottom] = edge.box;
    if (wx < left - reach || wx > right + reach || wy < top - reach || wy > bottom + reach || !shown(edge)) continue;
    if (lit.isPointInStroke(edge.path, wx, wy)) best = edge;
  }
  lit.restore();
  if (best) say([`${named(best)} ${signed(best.score)}`, between(best), best.selected === null ? "" : `in ${often(best)} of resamples`].filter(Boolean).join(", "), x, y);
  else tip.hidden = true;
}

function say(words, x, y) {
  tip.hidden = false;
  tip.textContent = words;
  tip.style.left = `${Math.max(4, Math.min(x + 12, stage.clientWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(2, y - 26)}px`;
}

// ---------------------------------------------------------------- the card of a node

const signed = (value, digits = 4) => (value === null ? "" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`);

/// The 95 % interval of an edge's score and the share of resamples that select it, where they were measured.
const between = ({ interval }) => (interval === null || interval.includes(null) ? "" : `[${interval.map((end) => signed(end)).join(", ")}]`);
const often = ({ selected }) => (selected === null ? "" : `${(100 * selected).toFixed(0)} %`);

function make(name, text, parent, className) {
  const made = document.createElement(name);
  if (text !== null && text !== undefined) made.textContent = text;
  if (className) made.className = className;
  parent.appendChild(made);
  return made;
}

function choose(index) {
  state.chosen = state.chosen === index ? null : index;
  card();
  redraw(false);
}

function card() {
  const panel = byId("card");
  panel.replaceChildren();
  const index = state.chosen;
  if (index === null) {
    make("h2", "Nodes", panel);
    make("p", "Point at a node to light its way to the logits. Click it, or press Enter, for what it does. Arrow keys follow the strongest edge up or down.", panel, "faint");
    return;
  }
  const node = nodes[index];
  make("h2", node.name, panel);
  if (node.role) make("p", `${node.role}: ${node.evidence}`, panel);
  if (node.cost !== null && node.cost !== undefined) make("p", `Removing it costs ${node.cost.toFixed(3)} of faithfulness.`, panel);
  for (const [heading, list, end] of [["Edges out", leaving[index], "to"], ["Edges in", entering[index], "from"]]) {
    const strongest = list.filter(shown).sort((a, b) => b.strength - a.strength);
    if (!strongest.length) continue;
    make("h3", `${heading} (${strongest.length})`, panel);
    const table = make("table", null, panel);
    if (strongest.slice(0, 12).some((edge) => edge.selected !== null)) {
      const row = make("tr", null, make("thead", null, table));
      for (const [text, name] of [[end], ["score", "number"], ["95 %", "number"], ["selected", "number"]]) make("th", text, row, name);
    }
    for (const edge of strongest.slice(0, 12)) {
      const row = make("tr", null, table);
      const other = nodes[edge[end]], cell = make("td", null, row);
      const link = make("button", end === "to" ? other.name : `${other.name}${edge.branch < 0 ? "" : ` into ${BRANCHES[edge.branch]}`}`, cell, "link");
      if (end === "to" && edge.branch >= 0) make("span", ` ${BRANCHES[edge.branch]}`, cell, "faint");
      link.addEventListener("click", () => { state.chosen = null; choose(edge[end]); other.element.focus(); });
      make("td", signed(edge.score), row, `number ${edge.score < 0 ? "negative" : "positive"}`);
      if (edge.selected === null) continue;
      make("td", between(edge), row, "number small");
      make("td", often(edge), row, "number small");
    }
    if (strongest.length > 12) make("p", `and ${strongest.length - 12} weaker ones`, panel, "faint");
  }
  if (node.writes) {
    make("h3", "What it writes to the logits", panel);
    make("p", "Mean over the example prompts, at the last position, through the final norm.", panel, "faint");
    const table = make("table", null, panel);
    for (const [token, value] of node.writes) {
      const row = make("tr", null, table);
      make("td", JSON.stringify(token), row);
      make("td", signed(value, 3), row, `number ${value < 0 ? "negative" : "positive"}`);
    }
  }
  if (node.patterns) patterns(panel, node.patterns);
}

function patterns(panel, all) {
  make("h3", "Attention on an example prompt", panel);
  const select = make("select", null, panel);
  select.setAttribute("aria-label", "example prompt");
  data.prompts.slice(0, all.length).forEach((prompt, index) => { make("option", prompt.clean, select).value = index; });
  select.style.maxWidth = "100%";
  const holder = make("div", null, panel, "scroll");
  const draw = () => {
    holder.replaceChildren();
    const words = data.prompts[select.value].tokens, rows = all[select.value];
    const grid = make("div", null, holder, "pattern");
    grid.setAttribute("role", "img");
    const last = rows[rows.length - 1], most = last.indexOf(Math.max(...last));
    grid.setAttribute("aria-label", `attention pattern; the last position attends most to ${JSON.stringify(words[most])}`);
    grid.style.gridTemplateColumns = `auto repeat(${words.length}, 11px)`;
    rows.forEach((row, query) => {
      make("div", words[query], grid, "word");
      words.forEach((word, key) => {
        const cell = make("div", null, grid, "cell");
        const share = row[key] ?? 0;
        if (key > query) cell.style.visibility = "hidden";
        cell.style.background = `color-mix(in srgb, var(--positive) ${Math.round(100 * share)}%, var(--mlp))`;
        cell.title = `${words[query]} → ${word}: ${share.toFixed(2)}`;
      });
    });
    make("p", `The last position attends most to ${JSON.stringify(words[most])} (${last[most].toFixed(2)}).`, holder, "faint");
  };
  select.addEventListener("change", draw);
  draw();
}

// ---------------------------------------------------------------- slider, search, tables

/// Whether a size has an interval: a single pair gives none.
const certain = (stop) => !stop.interval.includes(null);

function slide() {
  const stop = data.stops[state.stop];
  const place = state.stop === data.circuit ? ", the circuit found" : "";
  const interval = certain(stop) ? ` [${stop.interval.map((end) => end.toFixed(3)).join(", ")}]` : "";
  byId("says").textContent = `${stop.edges} edges: faithfulness ${stop.faithfulness.toFixed(3)}${interval}${place}`;
  byId("size").setAttribute("aria-valuetext", byId("says").textContent);
  stage.dataset.edges = edges.filter(shown).length;
  nodes.forEach((node, index) => node.element.setAttribute("aria-label", spoken(index)));
  curve();
  card();
  redraw(true);
}

function curve() {
  const svg = byId("curve");
  svg.replaceChildren();
  const [w, h, left, bottom] = [640, 240, 44, 34];
  svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
  const log = (edges) => Math.log(Math.max(1, edges));
  const most = log(data.stops[data.stops.length - 1].edges), least = log(data.stops[0].edges);
  const x = (edges) => left + ((w - left - 14) * (log(edges) - least)) / Math.max(1e-9, most - least);
  const values = data.stops.flatMap((stop) => [stop.faithfulness, ...(certain(stop) ? stop.interval : [])]);
  const low = Math.min(0, ...values), high = Math.max(1, ...values);
  const y = (value) => 10 + ((h - bottom - 10) * (high - value)) / (high - low);
  for (const value of [0, 0.5, 1]) {
    element("path", { class: "axis", d: `M${left} ${y(value)}H${w - 14}` }, svg);
    element("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, svg).textContent = value;
  }
  const [back, forth] = [0, 1].map((end) => data.stops.filter(certain).map((stop) => `${x(stop.edges)} ${y(stop.interval[end])}`));
  if (forth.length > 0) element("path", { class: "band", d: `M${[...forth, ...back.reverse()].join("L")}Z` }, svg);
  element("path", { class: "line", d: `M${data.stops.map((stop) => `${x(stop.edges)} ${y(stop.faithfulness)}`).join("L")}` }, svg);
  if (data.random !== null) {
    element("path", { class: "chance", d: `M${left} ${y(data.random)}H${w - 14}` }, svg);
    element("text", { x: w - 14, y: y(data.random) - 4, "text-anchor": "end" }, svg).textContent = "random circuits of the same size";
  }
  let right = -Infinity;
  for (const stop of data.stops) {
    if (x(stop.edges) - right < 34) continue;
    right = x(stop.edges);
    element("text", { x: right, y: h - bottom + 16, "text-anchor": "middle" }, svg).textContent = stop.edges;
  }
  element("text", { x: (w + left) / 2, y: h - 4, "text-anchor": "middle" }, svg).textContent = "edges";
  const here = data.stops[state.stop];
  element("circle", { class: "here", cx: x(here.edges), cy: y(here.faithfulness), r: 4.5 }, svg);
}

function search() {
  const words = byId("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  nodes.forEach((node, index) => {
    const text = `${node.name} ${node.role ?? ""}`.toLowerCase();
    const hit = words.length > 0 && words.every((word) => text.includes(word));
    node.element.classList.toggle("found", hit);
    if (hit) found.push(index);
  });
  byId("hits").textContent = words.length ? `${found.length} found` : "";
  return found;
}

function edgeTable() {
  const body = byId("edge-rows");
  const circuit = edges.filter((edge) => edge.first <= data.circuit).sort((a, b) => b.strength - a.strength);
  const stable = circuit.some((edge) => edge.selected !== null);
  for (const text of [...(stable ? ["95 %", "selected"] : []), "cost of removal"]) make("th", text, byId("edge-heads"), "number");
  byId("edge-words").hidden = !stable;
  for (const edge of circuit.slice(0, 300)) {
    const row = make("tr", null, body);
    make("td", named(edge), row);
    make("td", signed(edge.score), row, `number ${edge.score < 0 ? "negative" : "positive"}`);
    if (stable) for (const text of [between(edge), often(edge)]) make("td", text, row, "number");
    make("td", edge.cost === null ? "" : signed(edge.cost, 3), row, "number");
  }
  if (circuit.length > 300) make("p", `and ${circuit.length - 300} weaker edges in circuit.json`, body.closest("div"), "faint");
}

function rows(table, heading, all) {
  const head = make("tr", null, make("thead", null, table));
  for (const text of heading) make("th", text, head);
  const body = make("tbody", null, table);
  for (const cells of all) {
    const row = make("tr", null, body);
    for (const text of cells) make("td", text, row);
  }
}

function tables() {
  rows(byId("evidence"), ["", ""], data.evidence);
  const shownAs = (value) => (value === null ? "" : value.toFixed(3));
  rows(byId("prompts"), ["clean", "corrupt", "right", "wrong", "model", "circuit"],
    data.prompts.map((prompt) => [prompt.clean, prompt.corrupt, prompt.right, prompt.wrong, ...prompt.metric.map(shownAs)]));
}

// ---------------------------------------------------------------- start

function start() {
  readPalette();
  buildNodes();
  pointers();
  const size = byId("size");
  size.max = data.stops.length - 1;
  size.value = state.stop;
  size.addEventListener("input", () => { state.stop = Number(size.value); slide(); });
  byId("search").addEventListener("input", search);
  byId("search").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const found = search();
    if (found.length) { state.chosen = null; choose(found[0]); nodes[found[0]].element.focus(); bringIntoView(found[0]); }
  });
  byId("larger").addEventListener("click", () => zoom(1.3));
  byId("smaller").addEventListener("click", () => zoom(1 / 1.3));
  byId("whole").addEventListener("click", fit);
  byId("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    readPalette();
    redraw(true);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readPalette(); redraw(true); });
  window.addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLInputElement && event.target.type !== "range") return;
    if (event.key === "/") { event.preventDefault(); byId("search").focus(); }
    else if (event.key === "+") zoom(1.3);
    else if (event.key === "-") zoom(1 / 1.3);
    else if (event.key === "0") fit();
    else if (event.key === "Escape") { state.chosen = null; card(); redraw(false); }
  });
  new ResizeObserver(fit).observe(stage);
  tables();
  edgeTable();
  slide();
  fit();
  document.documentElement.dataset.ready = "true";
}
start();
