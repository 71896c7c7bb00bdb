/* Fills the figures that Python drew (looks, parts, axes) with the records of numbers.js, in the page's colours. */
"use strict";

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };

const copy = (value) => JSON.parse(JSON.stringify(value));
const traceOf = (spec, part) => copy(spec.data.find((trace) => trace.meta === part));

/** Colours of the current theme. */
function colours(data, dark) {
  const theme = dark ? data.theme.dark : data.theme.light;
  const kind = (name) => theme.series[data.theme.kind_colours[name] ?? theme.series.length - 1];
  return { ...theme, kind, edge: dark ? "#16191d" : "#ffffff", faint: `${theme.quiet}80` };
}

/** A figure's layout in the current colours. */
function layoutOf(spec, look) {
  const layout = copy(spec.layout);
  layout.font.color = look.ink;
  for (const name of ["xaxis", "yaxis"]) {
    layout[name].gridcolor = look.grid;
    layout[name].linecolor = look.grid;
    layout[name].tickfont = { color: look.quiet, size: 12 };
    layout[name].title = { ...layout[name].title, font: { color: look.quiet, size: 12.5 } };
    layout[name].fixedrange = true;
  }
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: look.edge, bordercolor: look.grid,
    font: { ...layout.hoverlabel.font, color: look.ink } };
  layout.showlegend = false; // the page has legends of its own, which wrap
  return layout;
}

function react(element, traces, layout) {
  element.style.height = `${layout.height}px`;
  return Plotly.react(element, traces, layout, CONFIG);
}

const unitText = (axis, value) => (axis.unit ? si(value, axis.unit) : fixed(value, Math.abs(value) < 0.1 ? 4 : 3));

/** Accuracy against cost. state: {x, y, xLog, yLog, accelerators, selected, showAll}. Returns what it left out. */
function drawTradeOff(element, spec, data, look, state) {
  const xAxis = data.axes.x.find((axis) => axis.column === state.x);
  const yAxis = data.axes.y.find((axis) => axis.column === state.y);
  const t = data.trials;
  let info = tradeOff(data, state.x, state.y, state.accelerators);
  const shared = !xAxis.per_accelerator; // one point stands for the recipe on every accelerator
  if (shared) info = onePerRecipe(data, info, state.selected);
  const count = info.trials.length;
  info = pickPoints(info, info.trials.map((_, i) => i).filter((i) => (!state.xLog || info.x[i] > 0) && (!state.yLog || info.y[i] > 0)));
  const offLog = count - info.trials.length;
  const front = info.trials.map((_, i) => i).filter((i) => info.front[i])
    .sort((a, b) => info.x[a] - info.x[b] || info.y[a] - info.y[b]);
  const traces = [];
  const line = traceOf(spec, "front");
  traces.push({ ...line, x: front.map((i) => info.x[i]), y: front.map((i) => info.y[i]),
    line: { ...line.line, color: look.quiet } });
  const series = shared ? [null] : [...new Set(t.accelerator)];
  series.forEach((name, index) => {
    const mine = info.trials.map((_, i) => i).filter((i) =>
      name === null || t.accelerator[info.trials[i]] === name);
    const trace = traceOf(spec, "points");
    const strong = (i) => (info.front[i] ? 1 : 0.6);
    const color = name === null ? look.ink : look.series[index % look.series.length];
    traces.push({ ...trace, name: name === null ? "" : plain(name), x: mine.map((i) => info.x[i]),
      y: mine.map((i) => info.y[i]), customdata: mine.map((i) => info.trials[i]),
      error_y: { ...trace.error_y, visible: info.error !== null, color: look.faint,
        array: info.error === null ? [] : mine.map((i) => info.error[i] ?? 0) },
      text: mine.map((i) => pointText(data, info.trials[i], xAxis, yAxis, shared)),
      hovertemplate: "%{text}<extra></extra>",
      marker: { ...trace.marker, color,
        symbol: data.theme.symbols[index % data.theme.symbols.length], opacity: mine.map(strong),
        size: mine.map((i) => (info.front[i] ? 12 : 9)), line: { width: 1, color: look.edge } } });
  });
  const ring = traceOf(spec, "ring");
  const chosen = info.trials.indexOf(state.selected);
  traces.push({ ...ring, x: chosen < 0 ? [] : [info.x[chosen]], y: chosen < 0 ? [] : [info.y[chosen]],
    marker: { ...ring.marker, color: look.ink } });
  const layout = layoutOf(spec, look);
  layout.height = element.clientWidth < 560 ? 420 : 560;
  for (const [name, axis, log] of [["xaxis", xAxis, state.xLog], ["yaxis", yAxis, state.yLog]]) {
    Object.assign(layout[name], { type: log ? "log" : "linear", tickformat: axis.unit ? "~s" : "~g",
      ticksuffix: axis.unit, nticks: 8 });
    if (log) Object.assign(layout[name], logTicks(name === "xaxis" ? info.x : info.y, axis.unit, element));
    layout[name].title.text = axis.title;
  }
  const fence = upperFence(info.y, info.y.filter((_, i) => info.trials[i] === state.selected));
  const hidden = fence === null ? 0 : info.y.filter((value) => value > fence).length;
  if (fence !== null && !state.showAll) layout.yaxis.range = rangeTo(info.y, fence, state.yLog);
  layout.annotations = [];
  const done = react(element, traces, layout).then(() => Plotly.relayout(element,
    { annotations: labels(element, front.map((i) => ({ x: info.x[i], y: info.y[i], text: t.recipe[info.trials[i]] })), look) }));
  return { done, info, hidden, offLog, shared };
}

/** Ticks of a log axis, each with prefix and unit, as plotly's own leave them out of some. */
function logTicks(values, unit, element) {
  const tickvals = logTickValues(values, element.clientWidth < 560 ? 20 : 200);
  return { tickmode: "array", tickvals, ticktext: tickvals.map((value) => shortSi(value, unit)) };
}

/** A legend of [title, colour, shape] under or over a figure; shape is a class of page.css. */
function legend(element, entries) {
  element.replaceChildren(...entries.map(([title, colour, shape]) => {
    const mark = el("span", { class: `key ${shape}`, "aria-hidden": "true" });
    mark.style.color = colour;
    return el("li", {}, mark, title);
  }));
}

function rangeTo(values, top, log) {
  const scale = log ? Math.log10 : (value) => value;
  const low = scale(Math.min(...values));
  const pad = 0.06 * (scale(top) - low || 1);
  return [low - pad, scale(top) + pad];
}

/** The points with one of each recipe: the selected trial where it is among them, else the first. */
function onePerRecipe(data, info, selected) {
  const kept = new Map();
  info.trials.forEach((trial, i) => {
    const recipe = data.trials.recipe[trial];
    if (!kept.has(recipe) || trial === selected) kept.set(recipe, i);
  });
  return pickPoints(info, [...kept.values()]);
}

/** Some points and their front. */
function pickPoints(info, rows) {
  const pick = (values) => (values === null ? null : rows.map((i) => values[i]));
  const [x, y] = [pick(info.x), pick(info.y)];
  return { trials: pick(info.trials), x, y, error: pick(info.error), front: paretoMask(x, y) };
}

function pointText(data, trial, xAxis, yAxis, shared) {
  const t = data.trials;
  const rows = [`<b>${plain(t.recipe[trial])}</b>`];
  if (!shared) rows.push(plain(t.accelerator[trial]));
  rows.push(`${xAxis.title}: ${unitText(xAxis, t[xAxis.column][trial])}`);
  rows.push(`${yAxis.title}: ${fixed(t[yAxis.column][trial], 4)}`);
  rows.push(`Loss above reference: ${signed(t.loss_delta[trial], 4)} ± ${fixed(t.loss_delta_se[trial], 4)}`);
  if (xAxis.column !== "bits_per_weight") rows.push(`Bits per weight: ${fixed(t.bits_per_weight[trial], 2)}`);
  if (!shared && xAxis.column !== "decode_s") rows.push(`Each token: ${si(t.decode_s[trial], "s")}, ${si(t.decode_energy_j[trial], "J")}`);
  return rows.join("<br>");
}

// Where a name may stand: pixels right and down from its point, and which end of it is there.
const ABOVE = [[10, -12, "left"], [-10, 12, "right"], [10, 12, "left"], [-10, -12, "right"]];
const BELOW = [[10, 16, "left"], [10, -14, "left"], [-10, -14, "right"], [-10, 16, "right"]];

/** Names beside points, the first ones first, each only where it covers neither an earlier name nor one of the points. */
function labels(element, points, look, sides = ABOVE) {
  const { xaxis, yaxis, _size: size } = element._fullLayout;
  const taken = points.map((p) => box(xaxis.d2p(p.x) - 6, yaxis.d2p(p.y) - 6, 12, 12));
  const placed = [];
  for (const point of points) {
    if (placed.some((other) => other.text === plain(point.text))) continue;
    const px = xaxis.d2p(point.x);
    const py = yaxis.d2p(point.y);
    if (!(py >= 0 && py <= size.h)) continue;
    const width = 6.7 * point.text.length + 6;
    for (const [dx, dy, anchor] of sides) {
      const left = anchor === "left" ? px + dx : px + dx - width;
      const area = box(left, py + dy - 8, width, 16);
      if (left < 0 || left + width > size.w || area.bottom > size.h || area.top < 0) continue;
      if (taken.some((other) => overlap(area, other))) continue;
      taken.push(area);
      placed.push({ xref: "x", yref: "y", x: xaxis.type === "log" ? Math.log10(point.x) : point.x,
        y: yaxis.type === "log" ? Math.log10(point.y) : point.y, text: plain(point.text), showarrow: false,
        xanchor: anchor, yanchor: "middle", xshift: dx, yshift: -dy, font: { size: 11.5, color: look.ink } });
      break;
    }
  }
  return placed;
}

/** Points so near that they cover each other as one, named by the one with most cycles and how many more there are. */
function together(element, points) {
  const { xaxis, yaxis } = element._fullLayout;
  const spots = [];
  for (const point of [...points].sort((a, b) => b.share - a.share)) {
    const [px, py] = [xaxis.d2p(point.intensity), yaxis.d2p(point.rate)];
    const spot = spots.find((other) => Math.hypot(other.px - px, other.py - py) < 14);
    if (spot === undefined) spots.push({ px, py, x: point.intensity, y: point.rate, names: new Set([point.name]) });
    else spot.names.add(point.name);
  }
  return spots.map(({ x, y, names: [first, ...more] }) => ({ x, y, text: more.length ? `${first} +${more.length}` : first }));
}

const box = (left, top, width, height) => ({ left, top, right: left + width, bottom: top + height });
const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

function drawKindCycles(element, spec, data, look, trial) {
  const info = kindCycles(data, trial);
  const prototypes = spec.data.filter((trace) => trace.meta === "kind");
  const traces = info.kinds.map((kind, k) => ({ ...copy(prototypes[k]),
    y: data.phases.map((phase) => data.phase_titles[phase]), x: info.shares.map((row) => row[k]),
    customdata: info.cycles.map((row) => row[k]),
    marker: { color: look.kind(kind), line: { width: 0 } } }));
  legend(element.nextElementSibling, info.kinds.filter((_, k) => info.cycles.some((row) => row[k] > 0))
    .map((kind) => [data.kind_titles[kind], look.kind(kind), "block"]));
  return react(element, traces, { ...layoutOf(spec, look), height: 130 });
}

const BARS = 400; // drawn at a time; a browser takes seconds for thousands

/** Cycles of the rows that `from` starts; returns how many rows there are in all. */
function drawBreakdown(element, spec, data, look, { trial, phase, everyLayer, from }) {
  const info = breakdown(data, trial, phase, everyLayer);
  const part = (values) => values.slice(from, from + BARS);
  const trace = { ...traceOf(spec, "layers"), y: part(info.names).map(plain), x: part(info.cycles),
    customdata: part(info.names.map((_, i) => [plain(data.kind_titles[info.kinds[i]]), info.members[i], info.shares[i]])),
    text: part(info.shares).map((value) => (value >= 0.005 ? `${Math.round(100 * value)}%` : "")),
    textfont: { color: look.quiet, size: 11.5 },
    marker: { color: part(info.kinds).map(look.kind), line: { width: 0 } } };
  const layout = barLayout(element, spec, look, part(info.names), everyLayer);
  layout.margin.r = 44;
  if (info.names.length > BARS) layout.xaxis.range = sameRange(info.cycles);
  react(element, [trace], layout);
  return info.names.length;
}

/** The range of an axis that holds all values, whichever of them are drawn. */
const sameRange = (values) => [0, 1.05 * Math.max(...values) || 1];

/** Layout of horizontal bars, one readable label each; with many of them the axis stands on top, where it is seen. */
function barLayout(element, spec, look, names, everyLayer) {
  const layout = layoutOf(spec, look);
  const narrow = element.clientWidth < 480;
  layout.height = Math.max(160, 70 + (everyLayer ? 18 : 24) * names.length);
  Object.assign(layout.xaxis, { tickangle: 0, nticks: narrow ? 4 : 6, side: everyLayer ? "top" : "bottom" });
  Object.assign(layout.yaxis, { tickmode: "array", tickvals: names.map(plain),
    ticktext: names.map((name) => plain(shorten(name, narrow ? 20 : 36))) });
  return layout;
}

function drawMemoryCompute(element, spec, data, look, { trial, phase, everyLayer, from }) {
  const info = memoryCompute(data, trial, phase, everyLayer);
  const names = info.names.slice(from, from + BARS);
  const traces = ["compute", "dram"].map((part, index) => ({ ...traceOf(spec, part), y: names.map(plain),
    x: info[part].slice(from, from + BARS), marker: { color: look.series[index], line: { width: 0 } } }));
  const layout = barLayout(element, spec, look, names, everyLayer);
  if (info.names.length > BARS) layout.xaxis.range = sameRange([...info.compute, ...info.dram]);
  return react(element, traces, layout);
}

const memoryComputeLegend = (element, look) =>
  legend(element, [["Compute", look.series[0], "block"], ["Memory", look.series[1], "block"]]);

function drawRoofline(element, spec, data, look, trial) {
  const info = roofline(data, trial);
  const traces = [["roof", info.peak, look.quiet], ["trial_roof", info.trialPeak, look.series[0]]]
    .map(([part, peak, color]) => {
      const trace = traceOf(spec, part);
      return { ...trace, ...roof(info, peak), line: { ...trace.line, color } };
    });
  const prototypes = spec.data.filter((trace) => trace.meta === "points");
  data.phases.forEach((phase, index) => {
    const mine = info.points.filter((point) => point.phase === phase);
    const trace = copy(prototypes[index]);
    traces.push({ ...trace, x: mine.map((p) => p.intensity), y: mine.map((p) => p.rate),
      text: mine.map((p) => plain(p.name)), customdata: mine.map((p) => [data.kind_titles[p.kind], p.share]),
      marker: { ...trace.marker, size: mine.map((p) => 8 + 18 * Math.sqrt(p.share)),
        color: mine.map((p) => look.kind(p.kind)), line: { width: 1, color: look.edge } } });
  });
  const layout = layoutOf(spec, look);
  layout.height = element.clientWidth < 560 ? 360 : 420;
  Object.assign(layout.xaxis, logTicks(traces.flatMap((trace) => trace.x), "", element));
  Object.assign(layout.yaxis, logTicks(traces.flatMap((trace) => trace.y), "", element));
  legend(element.nextElementSibling, [["Roof at 4-bit weights", look.quiet, "line"],
    ["Roof at this recipe", look.series[0], "line dashed"], ...data.phases.map((phase, index) =>
      [data.phase_titles[phase], look.quiet, prototypes[index].marker.symbol])]);
  layout.annotations = [];
  const done = react(element, traces, layout).then(() =>
    Plotly.relayout(element, { annotations: labels(element, together(element, info.points), look, BELOW) }));
  return { done, info };
}

function drawEnergySplit(element, spec, data, look, trial) {
  const info = energySplit(data, trial);
  const prototypes = spec.data.filter((trace) => trace.meta === "part");
  const series = [0, 2, 1, 7];
  const traces = info.parts.map((part, k) => ({ ...copy(prototypes[k]),
    y: data.phases.map((phase) => data.phase_titles[phase]), x: info.shares.map((row) => row[k]),
    text: info.shares.map((row) => (row[k] >= 0.08 ? `${Math.round(100 * row[k])}%` : "")),
    customdata: info.energy_pj.map((row) => row[k] * data.units.joules_per_pj),
    insidetextfont: { color: look.edge, size: 12 },
    marker: { color: look.series[series[k]], line: { width: 0 } } }));
  legend(element.nextElementSibling, info.parts.map((part, k) => [part, look.series[series[k]], "block"])
    .filter((_, k) => info.energy_pj.some((row) => row[k] > 0)));
  return react(element, traces, { ...layoutOf(spec, look), height: 140 });
}
