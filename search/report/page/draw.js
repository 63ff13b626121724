// Small drawing kit: scales, axes and marks as SVG. Everything is built with DOM calls, never from text, so that
// no name from a spec can become markup and the page runs under a policy without 'unsafe-inline'.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function node(tag, attributes = {}, children = []) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(key, value);
  made.append(...[children].flat());
  return made;
}

function html(tag, attributes = {}, children = []) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...[children].flat());
  return made;
}

const percent = (value, digits = 1) => (value === null ? "not measured" : `${(100 * value).toFixed(digits)}\u00a0%`);

function short(value) {
  if (value === null || value === undefined) return "not given";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(3)));
}

function scaled(value, steps, unit) {
  let index = 0;
  while (value >= 999.5 && index < steps.length - 1) { value /= 1000; index += 1; }
  return `${Number(value.toPrecision(3))}\u00a0${steps[index]}${unit}`.trim();
}

const formats = {
  stored_bytes: (value) => scaled(value, ["", "k", "M", "G"], "B"),
  stored_parameters: (value) => scaled(value, ["", "k", "M", "G"], ""),
  percent: (value) => percent(value, 0),
  number: short,
  ratio: (value) => `${short(value)}×`,
  seconds: (value) => (value < 120 ? `${short(value)} s` : value < 7200 ? `${short(value / 60)} min` : `${short(value / 3600)} h`),
};

// Ticks of a linear axis: a round step (1, 2, 2.5 or 5 times a power of ten) that gives about `count` of them.
function linearTicks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999);
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) ticks.push(k * step + 0); // -0 would be written as such
  return ticks;
}

function logTicks(low, high, count) {
  for (const digits of [[1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e += 1) {
      for (const digit of digits) {
        const tick = digit * 10 ** e;
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    }
    if (ticks.length <= count || digits.length === 1) {
      if (ticks.length >= 2) return ticks;
      // A rounded end may lie beside the axis; the middle stays as it is, or a short axis might have no number at all.
      const [first, last] = [low, high].map((t) => Number(t.toPrecision(3)));
      return [first, Math.sqrt(low * high), last].filter((t) => t >= low && t <= high);
    }
  }
  return [];
}

function axis(values, { log = false, pad = 0.04, low = null, high = null, grow = 0, ceiling = Infinity } = {}) {
  const known = values.filter((v) => v !== null && Number.isFinite(v) && (!log || v > 0));
  let [min, max] = known.length ? [Math.min(...known), Math.max(...known)] : [log ? 1 : 0, log ? 10 : 1];
  const there = log ? Math.log10 : (v) => v;
  const back = log ? (v) => 10 ** v : (v) => v;
  let [a, b] = [there(min), there(max)];
  const room = (b - a || Math.abs(a) * 0.1 || 1) * pad;
  [a, b] = [low === null ? a - room : there(low), high === null ? b + room * (1 + grow) : there(high)];
  b = Math.min(b, ceiling);
  if (a >= b) b = a + 1;
  return {
    log, low: back(a), high: back(b),
    share: (v) => (there(v) - a) / (b - a),
    ticks: (count) => (log ? logTicks(back(a), back(b), count) : linearTicks(a, b, count)),
  };
}

// Marker shapes, unit radius: readable without colour. Paths are scaled to the wanted size.
const SHAPES = {
  circle: "M1,0A1,1 0 1 1 -1,0A1,1 0 1 1 1,0Z",
  square: "M-.88,-.88H.88V.88H-.88Z",
  triangle: "M0,-1.15L1.05,.8H-1.05Z",
  diamond: "M0,-1.25L1.05,0L0,1.25L-1.05,0Z",
  wedge: "M0,1.15L1.05,-.8H-1.05Z",
  plus: "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
  star: "M0,-1.35L.38,-.48L1.3,-.42L.6,.2L.82,1.1L0,.62L-.82,1.1L-.6,.2L-1.3,-.42L-.38,-.48Z",
  hexagon: "M0,-1.15L1,-.58V.58L0,1.15L-1,.58V-.58Z",
  cross: "M-1.05,-.5L-.5,-1.05L0,-.55L.5,-1.05L1.05,-.5L.55,0L1.05,.5L.5,1.05L0,.55L-.5,1.05L-1.05,.5L-.55,0Z",
};

function marker(method, x, y, size, extra = "") {
  const transform = `translate(${x.toFixed(1)},${y.toFixed(1)}) scale(${size})`;
  return node("path", { d: SHAPES[method.shape], transform, class: `mark m${method.color} ${extra}` });
}

const line = (points, attributes) =>
  node("path", { d: points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join(""), fill: "none", ...attributes });

const steps = (points) => points.flatMap(([x, y], i) => (i ? [[x, points[i - 1][1]], [x, y]] : [[x, y]]));

// A picture that is laid out again when its place changes width, so that its text stays legible on a phone.
class Chart {
  constructor(id, description, draw) {
    this.place = document.getElementById(id);
    if (!this.place) return;
    this.description = description;
    this.draw = draw;
    this.targets = [];
    this.current = -1;
    this.width = 0;
    this.place.tabIndex = 0;
    this.place.setAttribute("role", "group");
    this.place.setAttribute("aria-label", `${description}. Arrow keys move from point to point.`);
    this.place.addEventListener("pointermove", (event) => this.hover(event));
    this.place.addEventListener("pointerdown", (event) => { this.hover(event); this.choose(); });
    this.place.addEventListener("pointerleave", () => this.leave());
    this.place.addEventListener("blur", () => this.leave());
    this.place.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => { if (this.place.clientWidth !== this.width) this.render(); }).observe(this.place);
  }

  render() {
    this.width = this.place.clientWidth;
    if (!this.width) return;
    this.leave();
    this.targets = [];
    this.svg = node("svg", { "aria-hidden": "true" });
    const height = this.draw(this, Math.max(this.width, 260));
    this.svg.setAttribute("viewBox", `0 0 ${Math.max(this.width, 260)} ${height}`);
    this.ring = node("circle", { class: "ring", r: 9, visibility: "hidden" });
    this.svg.append(this.ring);
    this.place.replaceChildren(this.svg);
  }

  add(...nodes) { this.svg.append(...nodes); }

  // Axes with grid lines; returns the functions from values to pixels.
  frame(width, height, x, y, { left = 52, right = 14, top = 14, bottom = 46, xLabel, yLabel, xFormat, yFormat } = {}) {
    const px = (v) => left + x.share(v) * (width - left - right);
    const py = (v) => height - bottom - y.share(v) * (height - top - bottom);
    const grid = node("g", { class: "grid" });
    const text = node("g", { class: "ticks" });
    for (const tick of y.ticks(Math.max(3, Math.round(height / 60)))) {
      grid.append(node("path", { d: `M${left},${py(tick)}H${width - right}` }));
      // A number at the very top would lie under the name of the axis.
      if (yLabel && py(tick) < top + 8) continue;
      text.append(node("text", { x: left - 8, y: py(tick), dy: ".32em", "text-anchor": "end" }, yFormat(tick)));
    }
    for (const tick of x.ticks(Math.max(3, Math.floor(width / 75)))) {
      grid.append(node("path", { d: `M${px(tick)},${height - bottom}v5`, class: "tick" }));
      text.append(node("text", { x: px(tick), y: height - bottom + 19, "text-anchor": "middle" }, xFormat(tick)));
    }
    grid.append(node("path", { d: `M${left},${height - bottom}H${width - right}`, class: "base" }));
    const labels = node("g", { class: "labels" }, [
      node("text", { x: width - right, y: height - 6, "text-anchor": "end" }, xLabel),
      node("text", { x: 2, y: 11 }, yLabel),
    ]);
    this.add(grid, text, labels);
    return { px, py, left, right: width - right, top, bottom: height - bottom };
  }

  target(x, y, title, rows, item = null) { this.targets.push({ x, y, title, rows, item }); }

  hover(event) {
    const box = this.svg.getBoundingClientRect();
    const scale = Math.max(this.width, 260) / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let [best, nearest] = [-1, 34 ** 2];
    this.targets.forEach((t, i) => {
      const distance = (t.x - x) ** 2 + (t.y - y) ** 2;
      // Of points equally near, the one that matters more comes later and wins.
      if (distance <= nearest) [best, nearest] = [i, distance];
    });
    if (best < 0) this.leave(); else this.show(best);
  }

  key(event) {
    const stops = this.targets.map((t, i) => i).filter((i) => !this.keyable || this.keyable(this.targets[i]));
    stops.sort((a, b) => this.targets[a].x - this.targets[b].x || this.targets[a].y - this.targets[b].y);
    const at = stops.indexOf(this.current);
    const moves = { ArrowRight: at + 1, ArrowLeft: at < 0 ? stops.length - 1 : at - 1, Home: 0, End: stops.length - 1 };
    if (event.key in moves && stops.length) {
      event.preventDefault();
      this.show(stops[Math.min(Math.max(moves[event.key], 0), stops.length - 1)], true);
    } else if (event.key === "Escape") this.leave();
    else if (event.key === "Enter") this.choose();
  }

  choose() { if (this.current >= 0 && this.onChoose) this.onChoose(this.targets[this.current]); }

  show(index, spoken = false) {
    this.current = index;
    const target = this.targets[index];
    this.ring.setAttribute("cx", target.x);
    this.ring.setAttribute("cy", target.y);
    this.ring.setAttribute("visibility", "visible");
    const box = this.svg.getBoundingClientRect();
    const scale = box.width / Math.max(this.width, 260);
    tip.show(box.left + target.x * scale, box.top + target.y * scale, target, spoken);
  }

  leave() {
    this.current = -1;
    if (this.ring) this.ring.setAttribute("visibility", "hidden");
    tip.hide();
  }
}

const tip = {
  show(x, y, { title, rows }, spoken) {
    this.box ??= document.getElementById("tip");
    const list = html("dl", {}, rows.flatMap(([key, value]) => [html("dt", {}, key), html("dd", {}, value)]));
    this.box.replaceChildren(html("strong", {}, title), list);
    this.box.hidden = false;
    const [w, h] = [this.box.offsetWidth, this.box.offsetHeight];
    const left = Math.min(Math.max(8, x + 16 + w > innerWidth ? x - w - 16 : x + 16), Math.max(8, innerWidth - w - 8));
    const top = Math.min(Math.max(8, y - h / 2), Math.max(8, innerHeight - h - 8));
    // Set through the object model, which the policy allows, unlike a style attribute in markup.
    this.box.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
    if (spoken) document.getElementById("spoken").textContent = [title, ...rows.map((row) => row.join(" "))].join(", ");
  },
  hide() { if (this.box) this.box.hidden = true; },
};
