/* What the figures show, computed from the page's data: no document, no plotly, so it also runs under Node in tests.
   Each figure's function here and the Python function of the same name in this package give the same record. */
"use strict";

const SUMMED = ["macs", "cycles", "compute_cycles", "dram_cycles", "dram_bits",
  "energy_pj", "energy_compute_pj", "energy_sram_pj", "energy_dram_pj"];
const ENERGY_PARTS = ["energy_compute_pj", "energy_sram_pj", "energy_dram_pj"];
const ENERGY_TITLES = ["Compute", "On-chip memory", "DRAM", "Other"];
const ROUNDING = 1e-6; // share of a total below which a remainder is rounding (figures carry 7 digits)

/** A column of a table as an array; strings are stored as codes into their values. */
function column(table, name) {
  const stored = table[name];
  return Array.isArray(stored) ? stored : stored.codes.map((code) => stored.values[code]);
}

/** The parsed data with every table's columns as arrays, and null (JSON has no NaN) left as null. */
function unpack(data) {
  const open = (table) => Object.fromEntries(Object.keys(table).map((name) => [name, column(table, name)]));
  return { ...data, trials: open(data.trials), machines: open(data.machines), costs: open(data.costs) };
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Which points no other dominates, smaller being better: codesign.pareto.pareto_mask for two objectives.
    Sort by x, then y; a point stays if its y is below that of every smaller x. Equal points stay or go together. */
function paretoMask(xs, ys) {
  const valid = xs.map((_, i) => i).filter((i) => xs[i] !== null && ys[i] !== null
    && !Number.isNaN(xs[i]) && !Number.isNaN(ys[i]));
  valid.sort((a, b) => (xs[a] < xs[b] ? -1 : xs[a] > xs[b] ? 1 : ys[a] < ys[b] ? -1 : ys[a] > ys[b] ? 1 : 0));
  const mask = xs.map(() => false);
  let best = Infinity;
  valid.forEach((i, position) => {
    const before = valid[position - 1];
    if (position > 0 && xs[before] === xs[i] && ys[before] === ys[i]) mask[i] = mask[before];
    else mask[i] = position === 0 || ys[i] < best;
    best = Math.min(best, ys[i]);
  });
  return mask;
}

/** Supported trials on the given accelerators (a Set; null for all) with numbers on both axes, and their front. */
function tradeOff(data, xColumn, yColumn, accelerators) {
  const t = data.trials;
  const yAxis = data.axes.y.find((axis) => axis.column === yColumn);
  const rows = t.recipe.map((_, i) => i).filter((i) => t.supported[i] && isNumber(t[xColumn][i])
    && isNumber(t[yColumn][i]) && (accelerators === null || accelerators.has(t.accelerator[i])));
  const x = rows.map((i) => t[xColumn][i]);
  const y = rows.map((i) => t[yColumn][i]);
  const error = yAxis.error === null ? null : rows.map((i) => t[yAxis.error][i]);
  return { trials: rows, x, y, error, front: paretoMask(x, y) };
}

/** Layers and costs of a trial in a phase, in the stored order: [{layer, cost}]. */
function trialLayers(data, trial, phase) {
  const run = data.runs[trial][data.phases.indexOf(phase)];
  if (run === null) return [];
  const [sequence, lengths] = run;
  const rows = [];
  for (let i = 0; i < lengths.length; i += 2) {
    for (let n = 0; n < lengths[i + 1]; n++) {
      rows.push({ layer: data.sequences[sequence][rows.length], cost: lengths[i] });
    }
  }
  return rows;
}

/** Rows of a trial in one phase, summed by group of equal role or, with everyLayer, one for each layer. */
function layerCosts(data, trial, phase, everyLayer) {
  const rows = new Map();
  for (const { layer, cost } of trialLayers(data, trial, phase)) {
    const key = everyLayer ? layer : data.layers.group[layer];
    if (!rows.has(key)) {
      rows.set(key, { key, first: layer, kind: data.layers.kind[layer], members: 0,
        ...Object.fromEntries(SUMMED.map((name) => [name, 0])) });
    }
    const row = rows.get(key);
    row.members += 1;
    for (const name of SUMMED) row[name] += data.costs[name][cost] ?? 0;
  }
  const sorted = [...rows.values()].sort((a, b) => a.key - b.key);
  for (const row of sorted) row.name = everyLayer ? data.layers.labels[row.key] : data.groups.titles[row.key];
  return sorted;
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);
const share = (value, whole) => (whole > 0 ? value / whole : 0);

function kindCycles(data, trial) {
  const kinds = Object.keys(data.kind_titles);
  const cycles = data.phases.map((phase) => {
    const sums = kinds.map(() => 0);
    for (const row of layerCosts(data, trial, phase, true)) sums[kinds.indexOf(row.kind)] += row.cycles;
    return sums;
  });
  return { kinds, cycles, shares: cycles.map((sums) => sums.map((value) => share(value, total(sums)))) };
}

function breakdown(data, trial, phase, everyLayer) {
  const rows = layerCosts(data, trial, phase, everyLayer);
  const cycles = rows.map((row) => row.cycles);
  const whole = total(cycles);
  return { names: rows.map((row) => row.name), kinds: rows.map((row) => row.kind),
    members: rows.map((row) => row.members), cycles, shares: cycles.map((value) => share(value, whole)) };
}

function memoryCompute(data, trial, phase, everyLayer) {
  const rows = layerCosts(data, trial, phase, everyLayer);
  return { names: rows.map((row) => row.name), compute: rows.map((row) => row.compute_cycles),
    dram: rows.map((row) => row.dram_cycles) };
}

function roofline(data, trial) {
  const machine = data.machines.accelerator.indexOf(data.trials.accelerator[trial]);
  const clock = data.machines.clock_hz[machine];
  const points = [];
  let best = null;
  let leftOut = 0;
  for (const phase of data.phases) {
    const rows = layerCosts(data, trial, phase, false);
    const cycles = total(rows.map((row) => row.cycles));
    for (const row of rows) {
      if (row.macs > 0 && row.compute_cycles > 0) best = Math.max(best ?? 0, (row.macs / row.compute_cycles) * clock);
      if (row.macs > 0 && row.dram_bits > 0 && row.cycles > 0) {
        points.push({ name: row.name, kind: row.kind, phase, share: row.cycles / cycles,
          intensity: row.macs / (row.dram_bits / data.units.byte_bits), rate: (row.macs / row.cycles) * clock });
      } else leftOut += 1;
    }
  }
  return { points, leftOut, trialPeak: best, peak: data.machines.peak_macs_per_s[machine],
    bandwidth: data.machines.dram_bytes_per_s[machine] };
}

/** Corners of a roof: a factor of 4 beyond points and corner on either side. */
function roof(info, peak) {
  if (!isNumber(peak) || !isNumber(info.bandwidth)) return { x: [], y: [] };
  const corner = peak / info.bandwidth;
  const all = [corner, ...info.points.map((point) => point.intensity)];
  const x = [Math.min(...all) / 4, corner, Math.max(...all) * 4];
  return { x, y: x.map((value) => Math.min(value * info.bandwidth, peak)) };
}

function energySplit(data, trial) {
  const energy = data.phases.map((phase) => {
    const rows = layerCosts(data, trial, phase, false);
    const named = ENERGY_PARTS.map((part) => total(rows.map((row) => row[part])));
    const whole = total(rows.map((row) => row.energy_pj));
    const rest = whole - total(named);
    return [...named, rest > ROUNDING * whole ? rest : 0];
  });
  return { parts: ENERGY_TITLES, energy_pj: energy,
    shares: energy.map((parts) => parts.map((value) => share(value, total(parts)))) };
}

/** For each goal column the best supported trial whose loss is at most `tolerance` nats above the reference, and the
    reference recipe's own best: [{column, trial, reference}], null where there is none. Ties go to the lower loss, then
    to less energy; a reference on the trial's own accelerator counts as the best if it is within a thousandth. */
function headlines(data, goals, tolerance, accelerators) {
  const t = data.trials;
  const usable = t.recipe.map((_, i) => i).filter((i) => t.supported[i]
    && (accelerators === null || accelerators.has(t.accelerator[i])));
  const all = t.recipe.map((_, i) => i).filter((i) => t.supported[i]);
  const least = (rows, name) => rows.filter((i) => isNumber(t[name][i]))
    .sort((a, b) => t[name][a] - t[name][b] || t.loss[a] - t.loss[b]
      || (t.total_energy_j[a] ?? Infinity) - (t.total_energy_j[b] ?? Infinity))[0] ?? null;
  return goals.map((name) => {
    const trial = least(usable.filter((i) => isNumber(t.loss_delta[i]) && t.loss_delta[i] <= tolerance), name);
    const references = all.filter((i) => t.recipe[i] === data.reference);
    const best = least(references, name);
    const own = trial === null ? undefined : references.find((i) => t.accelerator[i] === t.accelerator[trial]
      && isNumber(t[name][i]) && t[name][i] <= 1.001 * t[name][best]);
    return { column: name, trial, reference: own ?? best };
  });
}

/** Upper end that keeps far-off values (Tukey, 1977: beyond 1.5 interquartile ranges) from squashing the rest;
    null if nothing lies beyond. `keep` values always stay inside. */
function upperFence(values, keep) {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length < 4) return null;
  const quantile = (q) => {
    const at = q * (sorted.length - 1);
    const low = Math.floor(at);
    return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  };
  const fence = Math.max(quantile(0.75) + 1.5 * (quantile(0.75) - quantile(0.25)), ...keep);
  if (sorted[sorted.length - 1] <= fence) return null;
  return Math.max(...sorted.filter((value) => value <= fence));
}

/** A number with an SI prefix and three significant digits: "1.23 ms", "4.10 GB", "–" for none. */
function si(value, unit) {
  if (!isNumber(value)) return "–";
  if (value === 0) return `0 ${unit}`.trim();
  const prefixes = ["p", "n", "µ", "m", "", "k", "M", "G", "T", "P"];
  let power = Math.min(5, Math.max(-4, Math.floor(Math.log10(Math.abs(value)) / 3)));
  let digits = (value / 1000 ** power).toPrecision(3);
  if (Math.abs(Number(digits)) >= 1000 && power < 5) digits = (value / 1000 ** ++power).toPrecision(3);
  return `${digits.includes("e") ? String(Number(digits)) : digits} ${prefixes[power + 4]}${unit}`.trim();
}

/** The same without trailing zeros, "1 ms", "1.5 GB"; small plain numbers as they are: "0.02". */
function shortSi(value, unit) {
  if (unit === "" && Math.abs(value) >= 1e-4 && Math.abs(value) < 1e4) return String(Number(value.toPrecision(3)));
  const [digits, ...rest] = si(value, unit).split(" ");
  return [digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits, ...rest].join(" ");
}

/** Ticks of a log axis from the power of ten below the positive values to the one above: 1, 2 and 5 in each where the
    largest is less than `narrow` times the smallest, more where it is less than 5 times, else powers of ten alone. */
function logTickValues(values, narrow) {
  const positive = values.filter((value) => value > 0);
  if (positive.length === 0) return [];
  const low = Math.min(...positive);
  const high = Math.max(...positive);
  const steps = high / low < 5 ? [1, 1.5, 2, 3, 4, 5, 6, 8] : high / low < narrow ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    ticks.push(...steps.map((step) => Number(`${step}e${power}`)));
  }
  return ticks;
}

const fixed = (value, digits) => (isNumber(value) ? value.toFixed(digits).replace(/^-/, "−") : "–");
const signed = (value, digits) => (isNumber(value) && value > 0 ? "+" : "") + fixed(value, digits);

/** A name of at most so many characters, its middle left out: both ends tell layers apart. */
function shorten(name, limit) {
  const letters = [...name];
  if (letters.length <= limit) return name;
  const head = Math.ceil((limit - 1) / 2);
  return `${letters.slice(0, head).join("")}…${letters.slice(letters.length - (limit - 1 - head)).join("")}`;
}

/** A name as plotly shows it literally: its labels are a small HTML of their own. */
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

if (typeof module !== "undefined") {
  module.exports = { unpack, paretoMask, tradeOff, kindCycles, breakdown, memoryCompute, roofline, roof, energySplit,
    headlines, upperFence, logTickValues, si, shortSi, fixed, signed, plain, shorten };
}
