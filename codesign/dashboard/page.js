/* State, events and the order in which things are drawn. One object holds what the reader has chosen. */
"use strict";

const $ = (id) => document.getElementById(id);
const data = unpack(JSON.parse($("data").textContent));
const specs = JSON.parse($("figures").textContent);
const TOLERANCES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5];
const names = [...new Set(data.trials.accelerator)];

const state = {
  x: "decode_s", y: "loss", xLog: true, yLog: false, accelerators: new Set(names), selected: null, showAll: false,
  phase: data.phases[data.phases.length - 1], everyLayer: false, from: 0, tolerance: 0.05,
  sort: { column: "loss", descending: false }, find: "", listed: "all", theme: remembered(), shown: null,
};
let look = null;

/** The theme chosen on an earlier visit: "light", "dark" or "system". Storage may be barred for files. */
function remembered() {
  try { return localStorage.getItem("codesign-theme") ?? "system"; } catch { return "system"; }
}

function remember(theme) {
  try { localStorage.setItem("codesign-theme", theme); } catch { /* the choice lasts for this visit */ }
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const THEMES = ["system", "light", "dark"];

function applyTheme() {
  const dark = state.theme === "dark" || (state.theme === "system" && prefersDark.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = `Theme: ${state.theme}`;
  look = colours(data, dark);
}

/** The trial shown at first: the fastest near the reference, else the first on the front, else the first supported. */
function firstTrial() {
  const [best] = headlines(data, ["decode_s"], state.tolerance, null);
  if (best.trial !== null) return best.trial;
  const t = data.trials;
  const usable = t.recipe.map((_, i) => i).filter((i) => t.supported[i]);
  return usable.find((i) => t.on_front[i]) ?? usable[0] ?? 0;
}

function select(trial) {
  if (trial === state.selected) return;
  state.selected = trial;
  drawTop();
  drawSelected();
  drawLayers();
  for (const row of document.querySelectorAll("#trials tbody tr")) {
    row.setAttribute("aria-selected", String(Number(row.dataset.trial) === trial));
  }
}

function drawTop() {
  fillHeadlines($("headlines"), data, state, select);
  const drawn = drawTradeOff($("trade-off-chart"), specs.trade_off, data, look, state);
  state.shown = drawn.info;
  const notes = ["The line is the front of the trials shown: no other is both cheaper and better."];
  if (drawn.shared) notes.push("This cost is the same on every accelerator, so each recipe is one point.");
  if (drawn.info.error !== null) notes.push("Whiskers: one standard error of the loss above the reference.");
  if (drawn.offLog > 0) notes.push(`${drawn.offLog} at or below zero not shown on a log axis.`);
  if (drawn.info.trials.length === 0) notes.splice(0, notes.length, "No supported trial on these accelerators has figures for both axes.");
  $("trade-off-note").textContent = notes.join(" ");
  $("show-all").hidden = drawn.hidden === 0;
  $("show-all").textContent = state.showAll ? "Hide far-off trials" : `Show ${drawn.hidden} far-off trials`;
  return drawn.done;
}

function drawSelected() {
  const t = data.trials;
  const i = state.selected;
  $("selected-title").textContent = t.recipe[i];
  $("selected-sub").textContent = `${t.algorithm[i]} on ${t.accelerator[i]}${t.on_front[i] ? " · on the study's front" : ""}`;
  for (const element of document.querySelectorAll(".follows")) {
    element.textContent = `${t.recipe[i]} on ${t.accelerator[i]}`;
  }
  fillFigures($("selected-figures"), data, i);
  drawKindCycles($("kind-cycles-chart"), specs.kind_cycles, data, look, i);
  drawEnergySplit($("energy-split-chart"), specs.energy_split, data, look, i);
  const { info } = drawRoofline($("roofline-chart"), specs.roofline, data, look, i);
  const notes = ["Each point is a group of layers, its size the share of cycles, its colour the kind as above.",
    "The solid roof is for 4-bit weights; the dashed one is the fastest rate of any layer of this trial if memory were free."];
  if (info.leftOut > 0) notes.push(`${info.leftOut} groups without multiplications or DRAM traffic have no place here.`);
  $("roofline-note").textContent = notes.join(" ");
}

function drawLayers() {
  const what = { trial: state.selected, phase: state.phase, everyLayer: state.everyLayer, from: state.from };
  const bars = drawBreakdown($("breakdown-chart"), specs.breakdown, data, look, what);
  if (state.from >= bars && state.from > 0) { state.from = 0; drawLayers(); return; } // another trial has fewer
  drawMemoryCompute($("memory-compute-chart"), specs.memory_compute, data, look, what);
  memoryComputeLegend($("memory-compute-legend"), look);
  press($("phase"), state.phase);
  press($("detail"), state.everyLayer ? "every" : "role");
  $("pager").hidden = bars <= BARS;
  $("layers-shown").textContent = `${amount(state.from + 1)} to ${amount(Math.min(bars, state.from + BARS))} of ${amount(bars)}`;
  $("earlier").disabled = state.from === 0;
  $("later").disabled = state.from + BARS >= bars;
}

function drawTable() {
  const shown = fillTable($("trials"), data, state, { select, sort: sortBy });
  const axes = data.objectives.map((name) => name.replace(/^-/, "")).join(", ");
  $("table-note").textContent = `${shown} of ${data.trials.recipe.length} trials. ★ marks the study's front in ${axes}.`;
  press($("listed"), state.listed);
}

function sortBy(name) {
  const same = state.sort.column === name;
  state.sort = { column: name, descending: same && !state.sort.descending };
  drawTable();
  document.querySelector(`#trials [data-column="${name}"]`).focus();
}

const press = (group, value) => [...group.children].forEach((button) =>
  button.setAttribute("aria-pressed", String(button.dataset.value === value)));

function segments(group, choices, choose) {
  group.replaceChildren(...choices.map(([value, title]) =>
    el("button", { type: "button", "data-value": value, onclick: () => choose(value) }, title)));
}

function options(element, choices, chosen, change) {
  element.replaceChildren(...choices.map(([value, title]) => {
    const option = el("option", { value }, title);
    option.selected = value === chosen;
    return option;
  }));
  element.addEventListener("change", () => change(element.value));
}

const SHAPES = { circle: "M5 0A5 5 0 1 1 5 10A5 5 0 1 1 5 0Z", diamond: "M5 0L10 5L5 10L0 5Z", square: "M1 1H9V9H1Z",
  "triangle-up": "M5 0L10 9H0Z", pentagon: "M5 0L10 3.8L8.1 9.7H1.9L0 3.8Z", star: "M5 0L6.2 3.6H10L7 5.9L8.1 9.6L5 7.4L1.9 9.6L3 5.9L0 3.6H3.8Z",
  "triangle-down": "M0 1H10L5 10Z", hexagon: "M5 0L9.5 2.5V7.5L5 10L.5 7.5V2.5Z" };

function swatch(index) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of [["viewBox", "0 0 10 10"], ["width", "11"], ["height", "11"], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[data.theme.symbols[index % data.theme.symbols.length]]);
  path.setAttribute("fill", look.series[index % look.series.length]);
  svg.append(path);
  return svg;
}

/** Filters by accelerator; the last one shown stays. */
function drawChips() {
  $("accelerators").replaceChildren(...names.map((name, index) => el("button", { type: "button", class: "chip",
    "aria-pressed": String(state.accelerators.has(name)), "data-name": name, onclick: () => {
      if (!state.accelerators.delete(name)) state.accelerators.add(name);
      if (state.accelerators.size === 0) state.accelerators.add(name);
      drawChips();
      drawTop();
      drawTable();
      [...$("accelerators").children][index].focus();
    } }, swatch(index), name)));
}

function setAxis(which, name) {
  state[which] = name;
  const axis = data.axes[which].find((candidate) => candidate.column === name);
  state[`${which}Log`] = axis.log;
  $(`${which}-log`).checked = axis.log;
  drawTop();
}

/** Arrow keys walk the shown points by cost; Home and End go to the ends. */
function walk(event) {
  const order = state.shown.trials.map((trial, i) => [state.shown.x[i], state.shown.y[i], trial])
    .sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((entry) => entry[2]);
  const at = order.indexOf(state.selected);
  const step = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: order.length - 1 }[event.key];
  if (step === undefined || order.length === 0) return;
  event.preventDefault();
  select(order[Math.min(order.length - 1, Math.max(0, step))]);
}

function drawAll() {
  applyTheme();
  drawChips();
  const done = drawTop();
  drawSelected();
  drawLayers();
  drawTable();
  return done;
}

function start() {
  $("name").textContent = data.name;
  fillFacts($("facts"), data);
  $("reference").textContent = data.reference;
  options($("tolerance"), TOLERANCES.map((value) => [String(value), String(value)]), String(state.tolerance), (value) => {
    state.tolerance = Number(value);
    fillHeadlines($("headlines"), data, state, select);
  });
  for (const which of ["x", "y"]) {
    options($(`${which}-axis`), data.axes[which].map((axis) => [axis.column, axis.title]), state[which], (value) => setAxis(which, value));
    $(`${which}-log`).checked = state[`${which}Log`];
    $(`${which}-log`).addEventListener("change", (event) => { state[`${which}Log`] = event.target.checked; drawTop(); });
  }
  segments($("phase"), data.phases.map((phase) => [phase, data.phase_titles[phase]]), (value) => { state.phase = value; drawLayers(); });
  segments($("detail"), [["role", "By role"], ["every", "Every layer"]], 
    (value) => { state.everyLayer = value === "every"; state.from = 0; drawLayers(); });
  for (const [id, step] of [["earlier", -BARS], ["later", BARS]]) {
    $(id).addEventListener("click", () => { state.from += step; drawLayers(); });
  }
  $("show-all").addEventListener("click", () => { state.showAll = !state.showAll; drawTop(); });
  $("find").addEventListener("input", (event) => { state.find = event.target.value; drawTable(); });
  segments($("listed"), [["all", "All"], ["front", "Front"], ["unsupported", "Not supported"]],
    (value) => { state.listed = value; drawTable(); });
  $("theme").addEventListener("click", () => {
    state.theme = THEMES[(THEMES.indexOf(state.theme) + 1) % THEMES.length];
    remember(state.theme);
    drawAll();
  });
  prefersDark.addEventListener("change", drawAll);
  $("trade-off-chart").addEventListener("keydown", walk);
  fillManifest($("manifest"), data);
  state.selected = firstTrial();
  drawAll().then(() => {
    $("trade-off-chart").on("plotly_click", (event) => {
      const point = event.points.find((candidate) => candidate.customdata !== undefined);
      if (point) select(point.customdata);
    });
    document.documentElement.dataset.ready = "true";
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; drawTop(); }
  });
}

start();
