/* Everything on the page that is not a figure. Names from the data enter as text nodes alone. */
"use strict";

/** A new element with attributes (null ones left out; on* are listeners) and children (strings become text). */
function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Header facts by name, looked for at the top of the manifest and one level down. */
const FACTS = [["model", "Model"], ["text", "Text"], ["tokens", "Tokens"], ["context", "Window"], ["batch", "Batch"],
  ["prompt", "Prompt"], ["generate", "Generated"], ["seed", "Seed"]];

function findFact(manifest, key) {
  const isMap = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  const direct = (map) => {
    const value = map[key];
    return isMap(value) ? value.name ?? null : Array.isArray(value) ? null : value ?? null;
  };
  if (direct(manifest) !== null) return direct(manifest);
  return Object.values(manifest).filter(isMap).map(direct).find((value) => value !== null) ?? null;
}

const amount = (value) => (typeof value === "number" ? value.toLocaleString("en") : String(value));

function fillFacts(element, data) {
  const t = data.trials;
  const facts = FACTS.map(([key, title]) => [title, findFact(data.manifest, key)]).filter(([, value]) => value !== null);
  facts.push(["Recipes", new Set(t.recipe).size], ["Accelerators", new Set(t.accelerator).size],
    ["On the front", t.on_front.filter(Boolean).length]);
  element.replaceChildren(...facts.map(([title, value]) =>
    el("div", {}, el("dt", {}, title), el("dd", {}, amount(value)))));
}

const GOALS = [["bits_per_weight", "Fewest bits per weight", (v) => fixed(v, 2), "smaller"],
  ["decode_s", "Fastest token", (v) => si(v, "s"), "faster"],
  ["total_s", "Fastest prompt and generation", (v) => si(v, "s"), "faster"],
  ["total_energy_j", "Least energy", (v) => si(v, "J"), "more efficient"]];

function fillHeadlines(element, data, state, select) {
  const t = data.trials;
  const found = headlines(data, GOALS.map(([name]) => name), state.tolerance, state.accelerators);
  element.replaceChildren(...found.map(({ column: name, trial, reference }, i) => {
    const [, label, format, word] = GOALS[i];
    if (trial === null) {
      return el("div", { class: "card" }, el("span", { class: "label" }, label), el("span", { class: "value" }, "–"),
        el("span", { class: "what" }, "no recipe is that close"));
    }
    const ratio = reference === null ? null : t[name][reference] / t[name][trial];
    const on = reference !== null && name !== "bits_per_weight" && t.accelerator[reference] !== t.accelerator[trial]
      ? ` on ${t.accelerator[reference]}` : "";
    const where = name === "bits_per_weight" ? "" : ` on ${t.accelerator[trial]}`;
    return el("button", { type: "button", class: "card", "data-trial": trial, onclick: () => select(trial),
      "aria-pressed": String(trial === state.selected) },
    el("span", { class: "label" }, label), el("span", { class: "value" }, format(t[name][trial])),
    ratio === null || trial === reference || !Number.isFinite(ratio) ? null
      : el("span", { class: "ratio" }, `${ratio.toFixed(ratio < 10 ? 2 : 1)}× ${word} than ${data.reference}${on}`),
    el("span", { class: "what" }, `${t.recipe[trial]}${where}, ${signed(t.loss_delta[trial], 3)} nats`));
  }));
}

const withUnit = (value, digits, unit) => (isNumber(value) ? `${fixed(value, digits)} ${unit}` : "–");

const FIGURES = [["Loss", (t, i) => fixed(t.loss[i], 4), (t, i) => `${signed(t.loss_delta[i], 4)} ± ${fixed(t.loss_delta_se[i], 4)}`],
  ["Perplexity", (t, i) => fixed(t.perplexity[i], 2)], ["KL", (t, i) => withUnit(t.kl[i], 4, "nats")],
  ["Same top token", (t, i) => (isNumber(t.top1[i]) ? `${(100 * t.top1[i]).toFixed(1)}%` : "–")],
  ["Output SQNR", (t, i) => withUnit(t.sqnr_db[i], 1, "dB")],
  ["Bits per weight", (t, i) => fixed(t.bits_per_weight[i], 3)], ["Model size", (t, i) => si(t.model_bytes[i], "B")],
  ["Prompt", (t, i) => si(t.prefill_s[i], "s"), (t, i) => si(t.prefill_energy_j[i], "J")],
  ["Each token", (t, i) => si(t.decode_s[i], "s"), (t, i) => si(t.decode_energy_j[i], "J")],
  ["In total", (t, i) => si(t.total_s[i], "s"), (t, i) => si(t.total_energy_j[i], "J")],
  ["Silicon area", (t, i) => withUnit(t.area_mm2[i], 3, "mm²")]];

function fillFigures(element, data, trial) {
  const t = data.trials;
  element.replaceChildren(...FIGURES.map(([title, value, below]) => el("div", {}, el("dt", {}, title),
    el("dd", {}, value(t, trial), below ? el("small", {}, below(t, trial)) : null))));
}

const COLUMNS = [["recipe", "Recipe"], ["accelerator", "Accelerator", String], ["on_front", "Front", (v) => (v ? "★" : "")],
  ["algorithm", "Algorithm", String], ["bits_per_weight", "Bits", (v) => fixed(v, 2)],
  ["model_bytes", "Size", (v) => si(v, "B")], ["loss", "Loss", (v) => fixed(v, 4)],
  ["loss_delta", "Δ loss", (v) => signed(v, 4)], ["perplexity", "PPL", (v) => fixed(v, 2)],
  ["kl", "KL", (v) => fixed(v, 4)], ["area_mm2", "mm²", (v) => fixed(v, 2)], ["prefill_s", "Prompt", (v) => si(v, "s")],
  ["decode_s", "Token", (v) => si(v, "s")], ["total_energy_j", "Energy", (v) => si(v, "J")]];
const TEXT_COLUMNS = new Set(["recipe", "accelerator", "algorithm"]);
const COSTS = new Set(["prefill_s", "decode_s", "total_energy_j"]); // the last columns; none without support
const LISTED = { all: () => true, front: (t, i) => t.on_front[i], unsupported: (t, i) => !t.supported[i] };

/** Trials that pass the filters, sorted; null goes last either way, and after it what is not supported. */
function tableRows(data, state) {
  const t = data.trials;
  const wanted = state.find.trim().toLowerCase();
  const rows = t.recipe.map((_, i) => i).filter((i) => state.accelerators.has(t.accelerator[i])
    && LISTED[state.listed](t, i)
    && `${t.recipe[i]} ${t.algorithm[i]} ${t.accelerator[i]}`.toLowerCase().includes(wanted));
  const { column: name, descending } = state.sort;
  const sign = descending ? -1 : 1;
  const rank = (value) => (value === null ? null : typeof value === "boolean" ? Number(!value) : value);
  return rows.sort((a, b) => {
    if (t.supported[a] !== t.supported[b]) return Number(t.supported[b]) - Number(t.supported[a]);
    const [x, y] = [rank(t[name][a]), rank(t[name][b])];
    if (x === null || y === null) return Number(x === null) - Number(y === null);
    return sign * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y) || a - b;
  });
}

function fillTable(table, data, state, { select, sort }) {
  const t = data.trials;
  const rows = tableRows(data, state);
  const head = el("tr", {}, ...COLUMNS.map(([name, title]) => {
    const mine = state.sort.column === name;
    const direction = mine ? (state.sort.descending ? "descending" : "ascending") : null;
    return el("th", { scope: "col", "aria-sort": direction, class: TEXT_COLUMNS.has(name) ? "text" : null,
      title: data.trial_columns[name] },
    el("button", { type: "button", "data-column": name, onclick: () => sort(name) },
      title + (mine ? (state.sort.descending ? " ↓" : " ↑") : "")));
  }));
  const cell = (i, [name, , format]) => el("td", { class: name === "on_front" ? "star" : TEXT_COLUMNS.has(name) ? "text" : null,
    "aria-label": name === "on_front" && t.on_front[i] ? "on the front" : null }, format(t[name][i]));
  const body = rows.map((i) => (t.supported[i]
    ? el("tr", { "data-trial": i, "aria-selected": String(i === state.selected), onclick: () => select(i) },
      el("th", { scope: "row" }, el("button", { type: "button", title: t.recipe[i] }, t.recipe[i])),
      ...COLUMNS.slice(1).map((what) => cell(i, what)))
    : el("tr", { class: "unsupported" }, el("th", { scope: "row" }, el("span", { title: t.recipe[i] }, t.recipe[i])),
      ...COLUMNS.slice(1).filter(([name]) => !COSTS.has(name)).map((what) => cell(i, what)),
      el("td", { class: "text reason", colspan: COSTS.size }, `Not supported: ${t.reason[i] || "no reason given"}`))));
  table.replaceChildren(el("thead", {}, head), el("tbody", {}, ...body));
  return rows.length;
}

const isNested = (value) => value !== null && typeof value === "object";

/** A list's entry by its name, which then need not stand in it, or by its place from 1. */
function named(entry, i) {
  if (!isNested(entry) || entry.name === undefined || Object.keys(entry).length < 2) return [String(i + 1), entry];
  const { name, ...rest } = entry;
  return [String(name), rest];
}

/** Any JSON value as pairs of path and text: ["pe › lanes", "16"]. Lists of plain values are one text; those of maps go by
    the name of each, or its place. */
function flatten(value, path = []) {
  if (!isNested(value)) return [[path.join(" › "), value === null ? "–" : String(value)]];
  const entries = Array.isArray(value) ? value.map(named) : Object.entries(value);
  if (entries.length === 0) return [[path.join(" › "), "–"]];
  if (Array.isArray(value) && !value.some(isNested)) return [[path.join(" › "), value.map((v) => String(v ?? "–")).join(", ")]];
  return entries.flatMap(([key, entry]) => flatten(entry, [...path, key]));
}

const pairs = (rows) => el("table", { class: "pairs" }, el("tbody", {}, ...rows.map(([path, text]) =>
  el("tr", {}, el("th", { scope: "row" }, path), el("td", {}, text)))));

/** Rows of equal keys as a table. */
function records(rows) {
  const names = Object.keys(rows[0] ?? {});
  return el("table", { class: "records" }, el("thead", {}, el("tr", {}, ...names.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...names.map((name) => el("td", {}, row[name]))))));
}

const fold = (title, content) => el("details", {}, el("summary", {}, el("h3", {}, title)), content);

/** The accelerators in a table, then the manifest: a fold for each of its parts, plain values together in the first. */
function fillManifest(element, data) {
  const machines = data.machines.accelerator.map((name, i) => ({ Accelerator: name,
    Clock: si(data.machines.clock_hz[i], "Hz"), "MAC/s at 4 bits": si(data.machines.peak_macs_per_s[i], ""),
    "DRAM per second": si(data.machines.dram_bytes_per_s[i], "B"), "Area, mm²": fixed(data.machines.area_mm2[i], 3),
    Source: data.machines.source[i] }));
  const title = (key) => key.charAt(0).toUpperCase() + key.slice(1).replaceAll("_", " ");
  const parts = Object.entries(data.manifest);
  const plainOnes = parts.filter(([, value]) => !isNested(value));
  element.replaceChildren(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Accelerators" }, records(machines)),
    ...(plainOnes.length ? [fold("General", pairs(plainOnes.flatMap(([key, value]) => flatten(value, [key]))))] : []),
    ...parts.filter(([, value]) => isNested(value)).map(([key, value]) => fold(title(key), pairs(flatten(value)))));
}
