// The pictures of the report. `data` is the JSON block of the page; `state` is what the reader chose.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const state = { hidden: new Set(), measure: data.measure, cloud: true };
const shown = (index) => !state.hidden.has(index);
const charts = [];

function chart(id, description, draw) {
  const made = new Chart(id, description, draw);
  if (made.place) charts.push(made);
  return made;
}

// An axis of what is counted, which has no halves.
function wholeAxis(values, options = {}) {
  const range = axis(values, { pad: 0.02, ...options });
  return { ...range, ticks: (count) => range.ticks(count).filter(Number.isInteger) };
}

const interval = (p, seeds) => {
  if (p.low === null) return seeds === 1 ? "one seed, no interval" : `none, all ${seeds} seeds agree`;
  return `${percent(p.low)} to ${percent(p.high)}`;
};

function pointRows(p) {
  const rows = [
    ["Size", formats.stored_bytes(p.stored_bytes)],
    ["Parameters", formats.stored_parameters(p.stored_parameters)],
    ["95 % interval", interval(p, p.trials.length)],
    ["Ratio", formats.ratio(p.ratio)],
    ["Learning rate", short(p.lr)],
    ["Weight decay", short(p.weight_decay)],
    [p.seeds.length === 1 ? "Seed" : "Seeds", p.seeds.join(", ")],
    [p.trials.length === 1 ? "Trial" : "Trials", p.trials.join(", ")],
  ];
  if (data.dense.length > 1) rows.push(["Model", data.dense[p.network].model]);
  if (data.experiments.length > 1) rows.push(["Experiment", p.experiment], ["Folder", p.folder]);
  const budgets = Object.entries(p.budgets ?? {});
  if (budgets.length) rows.push(["Kept per layer", budgets.slice(0, 8).map(([k, v]) => `${k}: ${v.toLocaleString("en")}`).join("\n")]);
  if (budgets.length > 8) rows.push(["", `and ${budgets.length - 8} more`]);
  return rows;
}

const pointTitle = (p) => `${data.methods[p.method].name}: ${percent(p.accuracy)} in ${formats[state.measure](p[state.measure])}`;

// A vertical bar with feet from one accuracy to another.
function whisker(x, low, high, method) {
  return node("path", { d: `M${x},${low}V${high}M${x - 4},${low}h8M${x - 4},${high}h8`, class: `whisker m${method.color}` });
}

// Writes each label beside its point where it hides no other label: below or above, to the right or to the left.
function labels(c, width, wanted) {
  const taken = [];
  for (const [x, y, text] of wanted) {
    const length = 7.2 * text.length;
    const places = [[10, 20, 0], [-10, -13, -length], [-10, 20, -length], [10, -13, 0], [10, 36, 0], [-10, 36, -length], [10, -29, 0], [-10, -29, -length]];
    const box = ([dx, dy, shift]) => [x + dx + shift, y + dy - 12, x + dx + shift + length, y + dy + 3];
    const free = places.find((place) => {
      const [left, top, right, bottom] = box(place);
      return left > 50 && right < width && top > 0 && taken.every(([l, t, r, b]) => right < l || left > r || bottom < t || top > b);
    });
    if (!free) continue;
    taken.push(box(free));
    c.add(node("text", { x: x + free[0], y: y + free[1], class: "pick", "text-anchor": free[2] ? "end" : "start" }, text));
  }
}

const frontier = chart("frontier", "Accuracy against stored memory", (c, width) => {
  const height = Math.round(Math.min(Math.max(width * 0.56, 300), 520));
  const front = data.fronts[state.measure];
  const onFront = new Set(front.overall);
  const visible = data.points.map((p, i) => i).filter((i) => shown(data.points[i].method));
  const at = (i) => data.points[i][state.measure];
  const x = axis([...data.points, ...data.dense].map((p) => p[state.measure]), { log: true });
  // The bulk of failures to learn must not squeeze the frontier: the axis starts where the interesting points do.
  const y = axis([...data.focus, ...data.dense.map((d) => d.accuracy)], { grow: 0.6, ceiling: 1.004 });
  const f = c.frame(width, height, x, y, {
    xLabel: `${data.measures[state.measure]} (log scale)`, yLabel: data.accuracy_label,
    xFormat: formats[state.measure], yFormat: (v) => percent(v, y.high - y.low < 0.05 ? 1 : 0),
  });
  for (const { label, accuracy } of data.dense.filter((d) => d.accuracy !== null)) {
    const level = f.py(accuracy);
    // Above its line, unless the name of the axis stands there.
    const y = level - 7 < 24 ? level + 15 : level - 7;
    c.add(node("path", { d: `M${f.left},${level}H${f.right}`, class: "dense" }),
      node("text", { x: f.left + 6, y, class: "note" }, `${label} ${percent(accuracy)}`));
  }
  const inside = (i) => data.points[i].accuracy >= y.low;
  const pixel = (i) => [f.px(at(i)), f.py(Math.max(data.points[i].accuracy, y.low))];
  if (state.cloud) {
    const cloud = node("g", { class: "cloud" });
    for (const i of visible) {
      if (onFront.has(i) || !inside(i)) continue;
      const p = data.points[i];
      cloud.append(marker(data.methods[p.method], ...pixel(i), 3));
      c.target(...pixel(i), pointTitle(p), pointRows(p), i);
    }
    c.add(cloud);
  }
  data.methods.forEach((method, m) => {
    const own = (front.methods[m] ?? []).filter(inside);
    if (shown(m) && own.length > 1) c.add(line(steps(own.map(pixel)), { class: `front m${method.color}` }));
  });
  const all = front.overall.filter(inside);
  if (!state.hidden.size && all.length) {
    c.add(line([...steps(all.map(pixel)), [f.right, pixel(all.at(-1))[1]]], { class: "overall" }));
  }
  for (const i of all.filter((i) => shown(data.points[i].method))) {
    const p = data.points[i];
    if (p.low !== null) c.add(whisker(pixel(i)[0], f.py(Math.max(p.low, y.low)), f.py(Math.min(p.high, y.high)), data.methods[p.method]));
    c.add(marker(data.methods[p.method], ...pixel(i), 6.5, p.tied ? "tied" : "sure"));
    c.target(...pixel(i), pointTitle(p), [...pointRows(p), ...(p.tied ? [["Note", "interval overlaps its neighbour's"]] : [])], i);
  }
  const picked = data.picks.filter((pick) => pick.measure === state.measure && shown(data.points[pick.point].method) && inside(pick.point));
  labels(c, width, picked.map((pick) => [...pixel(pick.point), pick.label]));
  return height;
});
frontier.keyable = (t) => data.fronts[state.measure].overall.includes(t.item);
frontier.onChoose = (t) => select(t.item);

chart("ratio", "Accuracy against compression ratio for each method", (c, width) => {
  const height = Math.round(Math.min(Math.max(width * 0.5, 280), 460));
  const x = axis(data.ratios.flatMap((s) => s.points.map((p) => p.ratio)), { log: true });
  const y = axis([...data.ratios.flatMap((s) => s.points.map((p) => p.accuracy)), ...data.dense.map((d) => d.accuracy)], { grow: 0.6, ceiling: 1.004 });
  const f = c.frame(width, height, x, y, {
    xLabel: "Compression ratio (log scale)", yLabel: data.accuracy_label, xFormat: formats.ratio, yFormat: (v) => percent(v, y.high - y.low < 0.05 ? 1 : 0),
  });
  for (const { label, accuracy } of data.dense.filter((d) => d.accuracy !== null)) {
    const level = f.py(accuracy);
    c.add(node("path", { d: `M${f.left},${level}H${f.right}`, class: "dense" }), node("text", { x: f.right - 4, y: level - 7, class: "note", "text-anchor": "end" }, label));
  }
  for (const { method, points } of data.ratios.filter((s) => shown(s.method))) {
    const look = data.methods[method];
    const at = (p) => [f.px(p.ratio), f.py(p.accuracy)];
    c.add(line(points.map(at), { class: `series m${look.color}` }));
    for (const p of points) {
      if (p.low !== null) c.add(whisker(at(p)[0], f.py(Math.max(p.low, y.low)), f.py(Math.min(p.high, y.high)), look));
      c.add(marker(look, ...at(p), 5, "sure"));
      c.target(...at(p), `${look.name}: ${percent(p.accuracy)} at ${formats.ratio(p.ratio)}`, [
        ["Range of ratios", `${formats.ratio(p.start)} to ${formats.ratio(p.end)}`], ["95 % interval", interval(p, p.seeds)], ["Proposals", `best of ${p.proposals}`], ["Trial", p.trial]]);
    }
  }
  return height;
});

chart("history", "Hypervolume over trials", (c, width) => {
  const height = Math.round(Math.min(Math.max(width * 0.42, 240), 340));
  const x = wholeAxis(data.history.map((h) => h[0]), { low: 0 });
  // The first trials always rise steeply from nothing; the question is what the later ones add.
  const y = axis(data.history.slice(Math.floor(data.history.length / 10)).map((h) => h[1]), { pad: 0.12 });
  const f = c.frame(width, height, x, y, { xLabel: "Proposals finished", yLabel: "Hypervolume", xFormat: (v) => v.toLocaleString("en"), yFormat: short });
  const at = data.history.map(([n, v]) => [f.px(n), f.py(Math.max(v, y.low))]);
  c.add(line(steps(at), { class: "overall" }));
  data.history.forEach(([n, v], i) => c.target(...at[i], `${n.toLocaleString("en")} proposals`, [["Hypervolume", short(v)], ["Of the last", percent(v / data.history.at(-1)[1])]]));
  return height;
});

chart("curves", "Validation accuracy over epochs", (c, width) => {
  const height = Math.round(Math.min(Math.max(width * 0.5, 280), 420));
  const all = data.curves.flatMap((s) => s.epochs.map((e, i) => [e, s.accuracy[i]]));
  const x = wholeAxis(all.map((p) => p[0]));
  const y = axis(all.map((p) => p[1]), { grow: 0.6, ceiling: 1.004 });
  const f = c.frame(width, height, x, y, { xLabel: "Epoch", yLabel: "Validation accuracy", xFormat: short, yFormat: (v) => percent(v, 0) });
  for (const curve of data.curves.filter((s) => shown(s.method))) {
    const look = data.methods[curve.method];
    const at = curve.epochs.map((e, i) => [f.px(e), f.py(curve.accuracy[i])]);
    c.add(line(at, { class: `${curve.frontier ? "series" : "faint"} m${look.color}` }));
    if (!curve.frontier) continue;
    c.add(marker(look, ...at.at(-1), 5, "sure"));
    at.forEach(([px, py], i) => c.target(px, py, `${look.name}: ${percent(curve.accuracy[i])} after epoch ${curve.epochs[i]}`, [["Trial", curve.trial], ["Ratio", formats.ratio(curve.ratio)], ["Learning rate", short(curve.lr)]]));
  }
  return height;
});

const clip = (text, width) => { const room = Math.max(3, Math.floor(width / 6.8)); return text.length > room ? `${text.slice(0, room - 1)}…` : text; };

chart("budgets", "Share of each layer's weights that the frontier's models keep", (c, width) => {
  const { layers, columns, values } = data.budgets;
  const left = Math.min(150, width * 0.3);
  const cell = (width - left - 4) / columns.length;
  const rowHeight = 30;
  const top = 30;
  layers.forEach((layer, r) => {
    c.add(node("text", { x: left - 8, y: top + (r + 0.5) * rowHeight, dy: ".32em", "text-anchor": "end", class: "row" }, clip(layer, left - 10)));
    columns.forEach((column, k) => {
      const value = values[r][k];
      const [x, y] = [left + k * cell, top + r * rowHeight];
      const p = data.points[column];
      // Ten shades over three decades: 0.1 % and less, up to 100 %.
      const shade = value === null ? "none" : Math.round(Math.min(Math.max((Math.log10(Math.max(value, 1e-9)) + 3) / 3, 0), 1) * 9);
      c.add(node("rect", { x: x + 1, y: y + 1, width: Math.max(cell - 2, 1), height: rowHeight - 2, rx: 3, class: `cell s${shade}` }));
      const text = value === null ? "–" : String(Number((100 * value).toPrecision(2)));
      if (cell > 36) c.add(node("text", { x: x + cell / 2, y: y + rowHeight / 2, dy: ".34em", "text-anchor": "middle", class: `value v${shade}` }, text));
      c.target(x + cell / 2, y + rowHeight / 2, `${layer}: ${value === null ? "left to the method" : `${short(100 * value)} % kept`}`, [["In", pointTitle(p)], ["Ratio", formats.ratio(p.ratio)]]);
    });
  });
  const below = top + layers.length * rowHeight + 18;
  c.add(node("text", { x: left - 8, y: 19, "text-anchor": "end" }, "method"), node("text", { x: left - 8, y: below, "text-anchor": "end" }, "size"));
  columns.forEach((column, k) => {
    const p = data.points[column];
    const x = left + (k + 0.5) * cell;
    c.add(marker(data.methods[p.method], x, 15, Math.min(6, cell / 3), "sure"));
    const every = Math.ceil(66 / cell);
    if (k % every === 0) c.add(node("text", { x, y: below, "text-anchor": "middle", class: "row" }, formats[data.measure](p[data.measure])));
  });
  return top + layers.length * rowHeight + 28;
});

chart("importances", "How much each searched value matters", (c, width) => {
  const rows = data.importances.rows;
  const left = Math.min(170, width * 0.36);
  const rowHeight = 30;
  const x = axis(rows.flatMap((r) => [r.value + r.spread, 0.01]), { low: 0, pad: 0.05 });
  const f = c.frame(width, rows.length * rowHeight + 56, x, { ...axis([0, 1]), ticks: () => [] }, { left, top: 6, xLabel: "Loss of R² when the value is shuffled", yLabel: "", xFormat: short, yFormat: short });
  rows.forEach((row, i) => {
    const y = 6 + (i + 0.5) * rowHeight;
    const [from, to] = [f.px(Math.max(row.value - row.spread, 0)), f.px(Math.max(row.value + row.spread, 0))];
    c.add(node("text", { x: left - 8, y, dy: ".32em", "text-anchor": "end", class: "row" }, clip(row.name, left - 10)),
      node("rect", { x: left, y: y - 8, width: Math.max(f.px(Math.max(row.value, 0)) - left, 1), height: 16, rx: 2, class: "bar" }),
      node("path", { d: `M${from},${y}H${to}M${from},${y - 4}v8M${to},${y - 4}v8`, class: "spread" }));
    c.target(f.px(Math.max(row.value, 0)), y, row.name, [["Importance", `${short(row.value)} ± ${short(row.spread)}`]]);
  });
  return rows.length * rowHeight + 56;
});

chart("times", "Where the trials' time went, for each method", (c, width) => {
  const { parts, rows } = data.times;
  const left = Math.min(110, width * 0.26);
  const rowHeight = 34;
  const x = axis(rows.map((r) => r.seconds.reduce((a, b) => a + b, 0)), { low: 0, pad: 0.03 });
  const unit = x.high > 7200 ? ["hours", 3600] : x.high > 240 ? ["minutes", 60] : ["seconds", 1];
  const scaledAxis = { ...x, ticks: (n) => linearTicks(0, x.high / unit[1], n).map((t) => t * unit[1]) };
  const f = c.frame(width, rows.length * rowHeight + 56, scaledAxis, { ...axis([0, 1]), ticks: () => [] }, { left, top: 6, xLabel: `Time of all trials, ${unit[0]}`, yLabel: "", xFormat: (v) => short(v / unit[1]), yFormat: short });
  rows.forEach((row, i) => {
    const y = 6 + (i + 0.5) * rowHeight;
    c.add(node("text", { x: left - 8, y, dy: ".32em", "text-anchor": "end", class: "row" }, clip(data.methods[row.method].name, left - 10)));
    let from = 0;
    row.seconds.forEach((seconds, k) => {
      const [a, b] = [f.px(from), f.px(from + seconds)];
      if (b - a > 0.3) c.add(node("rect", { x: a, y: y - 11, width: b - a, height: 22, class: `part p${k}` }));
      c.target((a + b) / 2, y, `${data.methods[row.method].name}, ${parts[k]}`, [["Time", formats.seconds(seconds)], ["Share", percent(seconds / row.seconds.reduce((s, t) => s + t, 0))]]);
      from += seconds;
    });
  });
  return rows.length * rowHeight + 56;
});
