"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const charts = [];
  const TINY = 2e-6;
  const STEPS = [.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
    3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000, 31536000, 315360000];

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colourOf = (pair) => pair[dark.matches ? 1 : 0];
  const two = (number) => String(number).padStart(2, "0");
  const full = [data.begin - data.margin, data.end + data.margin];

  // Times are shown in the zone of the computer that made this page, wherever it is opened.
  const offset = (t) => {
    let found = data.zones[0][1];
    for (const [from, seconds] of data.zones) if (t >= from) found = seconds;
    return found;
  };
  const wall = (t) => new Date(Math.round((t + offset(t)) * 1000));
  const dayText = (t) => { const d = wall(t); return `${d.getUTCFullYear()}-${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`; };
  const clockText = (t, step) => {
    const d = wall(t), clock = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}`;
    if (step >= 60) return clock;
    const seconds = `${clock}:${two(d.getUTCSeconds())}`;
    return step >= 1 ? seconds : `${seconds}.${String(d.getUTCMilliseconds()).padStart(3, "0")}`;
  };
  const splits = (_u, _axis, low, high, step) => {
    const found = [];
    const shift = offset(low);
    for (let t = Math.ceil((low + shift) / step) * step - shift; t <= high; t += step) found.push(+t.toFixed(3));
    return found;
  };
  const values = (_u, ticks, _axis, _space, step) => ticks.map((t, place) => {
    const day = dayText(t);
    if (step >= 86400) return day;
    const fresh = place === 0 || day !== dayText(ticks[place - 1]);
    return clockText(t, step) + (fresh ? `\n${day}` : "");
  });

  // A curve as it came: per part the times in ms as differences, the values, which are uncertain, where it breaks.
  function decode(curve) {
    const tables = [], isolated = new Set(), points = [];
    for (const part of curve.parts) {
      const x = [], good = [], uncertain = [];
      const unsure = new Set(part.u), broken = new Set(part.b);
      let ms = 0, last = -Infinity;
      part.v.forEach((value, i) => {
        ms += part.t[i];
        const cut = i === 0 || broken.has(i);
        const t = Math.max(data.begin + ms / 1000, last + TINY);
        if (cut && i > 0) { x.push((last + t) / 2); good.push(null); uncertain.push(null); }
        const dash = unsure.has(i);
        if (!cut && dash && !unsure.has(i - 1)) uncertain[uncertain.length - 1] = part.v[i - 1];
        const joins = !cut && unsure.has(i - 1) && !dash;
        x.push(t); good.push(dash ? null : value); uncertain.push(dash || joins ? value : null);
        if (cut && (i + 1 === part.v.length || broken.has(i + 1))) isolated.add(t);
        points.push({ t, value, dash, cut });
        last = t;
      });
      tables.push([x, good, uncertain]);
    }
    points.sort((a, b) => a.t - b.t);
    return { tables, isolated, points };
  }

  // The curves of a panel on one axis of time. Where another curve has a point, this one has none: its line goes on
  // there, if it has a value before and after; else the gap is as wide as it is.
  function joined(tables) {
    const all = uPlot.join(tables, tables.map((table) => table.slice(1).map(() => 1)));
    for (const values of all.slice(1)) {
      for (let i = 0; i < values.length; i++) {
        if (values[i] !== undefined) continue;
        const begin = i;
        while (i < values.length && values[i] === undefined) i++;
        if ((values[begin - 1] ?? null) === null || (values[i] ?? null) === null) values.fill(null, begin, i);
      }
    }
    return all;
  }

  function at(points, t) {
    let low = 0, high = points.length;
    while (low < high) { const middle = (low + high) >> 1; if (points[middle].t <= t) low = middle + 1; else high = middle; }
    const before = points[low - 1], after = points[low];
    if (before && Math.abs(before.t - t) < 1e-3) return before;
    if (!before || !after) return null;
    if (after.cut) return null;
    return t - before.t <= after.t - t ? before : after;
  }

  // Of a reduced curve only extremes are there: the cursor shows the range around it, never one of them as the value.
  function textAt(curve, { points }, t, unit) {
    const point = at(points, t);
    if (point === null) return ["no value"];
    const quality = point.dash ? "uncertain" : "good";
    if (!curve.width) return [`${point.value} ${unit}`, quality];
    const near = points.filter((other) => Math.abs(other.t - t) <= curve.width).map((other) => other.value);
    near.push(point.value);
    const low = near.reduce((a, b) => Math.min(a, b)), high = near.reduce((a, b) => Math.max(a, b));
    return [low === high ? `${low} ${unit}` : `${low} to ${high} ${unit}`, quality];
  }

  const statesAt = (panel, t, curve, slack) => panel.rows
    .filter((row) => (curve === null ? !row.curves.length : row.curves.includes(curve)) && row.spans.some(([from, to]) => t >= from - slack && t <= to + slack))
    .map((row) => row.word);

  function hatch(c, kind, x, y, width, height, colour) {
    c.save(); c.beginPath(); c.rect(x, y, width, height); c.clip();
    c.strokeStyle = c.fillStyle = colour; c.globalAlpha = .45; c.lineWidth = devicePixelRatio;
    const gap = 9 * devicePixelRatio;
    c.beginPath();
    for (let at = Math.floor((x - height) / gap) * gap; at < x + width + height; at += gap) {
      if (kind === "/" || kind === "x") { c.moveTo(at, y + height); c.lineTo(at + height, y); }
      if (kind === "\\" || kind === "x") { c.moveTo(at, y); c.lineTo(at + height, y + height); }
      if (kind === ".") for (let down = y; down < y + height; down += gap) c.rect(at, down, devicePixelRatio, devicePixelRatio);
    }
    c.stroke(); c.restore();
  }

  function drawBands(u, panel) {
    const c = u.ctx, { left, top, width, height } = u.bbox, dpr = devicePixelRatio;
    c.save(); c.beginPath(); c.rect(left, top, width, height); c.clip();
    for (const band of panel.bands) {
      const colour = colourOf(band.colour);
      for (const [from, to] of band.spans) {
        const x = u.valToPos(from, "x", true), wide = Math.max(u.valToPos(to, "x", true) - x, dpr);
        if (x > left + width || x + wide < left) continue;
        c.globalAlpha = .2; c.fillStyle = colour; c.fillRect(x, top, wide, height); c.globalAlpha = 1;
        hatch(c, band.hatch, x, top, wide, height, colour);
        c.globalAlpha = .5; c.fillRect(x, top, dpr, height); c.globalAlpha = 1;
      }
    }
    c.restore();
  }

  // Above the curves, or they could hide it.
  function drawLetters(u, panel) {
    const c = u.ctx, { left, top, width } = u.bbox, dpr = devicePixelRatio;
    c.save(); c.font = `bold ${12 * dpr}px system-ui, sans-serif`; c.textBaseline = "top"; c.textAlign = "left";
    panel.bands.forEach((band, level) => {
      for (const [from, to] of band.spans) {
        const x = Math.max(u.valToPos(from, "x", true), left), end = Math.min(u.valToPos(to, "x", true), left + width);
        if (end - x < 14 * dpr) continue;
        const y = top + (3 + 15 * level) * dpr;
        c.globalAlpha = .8; c.fillStyle = css("--ground"); c.fillRect(x + 2 * dpr, y - dpr, 12 * dpr, 14 * dpr);
        c.globalAlpha = 1; c.fillStyle = colourOf(band.colour); c.fillText(band.letter, x + 3 * dpr, y);
      }
    });
    c.restore();
  }

  function drawAlarms(u, panel) {
    const c = u.ctx, { left, top, width } = u.bbox, size = 6 * devicePixelRatio;
    c.save(); c.fillStyle = colourOf(data.alarm);
    for (const t of panel.alarms) {
      const x = u.valToPos(t, "x", true);
      if (x < left - 1 || x > left + width + 1) continue;
      c.beginPath(); c.moveTo(x - size, top - size); c.lineTo(x + size, top - size); c.lineTo(x, top + size); c.fill();
    }
    c.restore();
  }

  const ROW = 19;
  function drawRows(u, panel, canvas) {
    if (!panel.rows.length) return;
    const dpr = devicePixelRatio, c = canvas.getContext("2d");
    canvas.width = u.width * dpr; canvas.height = panel.rows.length * ROW * dpr;
    canvas.style.height = `${panel.rows.length * ROW}px`;
    const { left, width } = u.bbox;
    c.font = `${12 * dpr}px system-ui, sans-serif`; c.textBaseline = "middle"; c.textAlign = "right";
    panel.rows.forEach((row, place) => {
      const y = place * ROW * dpr, middle = y + ROW * dpr / 2;
      c.fillStyle = row.curves.length === 1 ? colourOf(panel.curves[row.curves[0]].colour) : css("--text");
      c.fillText(row.label, left - 8 * dpr, middle, left - 10 * dpr);
      c.fillStyle = css("--line"); c.fillRect(left, middle, width, 1);
      c.save(); c.beginPath(); c.rect(left, y, width, ROW * dpr); c.clip();
      c.fillStyle = colourOf(row.colour);
      for (const [from, to] of row.spans) {
        const x = u.valToPos(from, "x", true);
        c.fillRect(x, y + 3 * dpr, Math.max(u.valToPos(to, "x", true) - x, 2 * dpr), (ROW - 6) * dpr);
      }
      c.restore();
    });
  }

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  function legendOf(panel) {
    const list = element("ul", "legend");
    const entry = (kind, pair, letter, text) => {
      const item = element("li"), swatch = element("span", `swatch ${kind}`, letter), label = element("span", "", text);
      swatch.setAttribute("aria-hidden", "true");
      const paint = () => { swatch.style.borderColor = swatch.style.color = colourOf(pair); };
      paint(); dark.addEventListener("change", paint);
      item.append(swatch, label); list.append(item);
      return label;
    };
    const labels = panel.curves.map((curve) => entry("", curve.colour, "", curve.label));
    if (panel.dashed) entry("dashed", data.plain, "", "uncertain");
    for (const band of panel.bands) entry("box", band.colour, band.letter, band.word);
    if (panel.alarms.length) entry("box", data.alarm, "▼", "alarm begins");
    return { list, labels };
  }

  let moving = false;
  function zoom(low, high) {
    const least = .01, most = (full[1] - full[0]) * 1.2;
    const wide = Math.min(Math.max(high - low, least), most), middle = (low + high) / 2;
    moving = true;
    for (const { u } of charts) u.setScale("x", { min: middle - wide / 2, max: middle + wide / 2 });
    moving = false;
  }
  const view = () => { const { min, max } = charts[0].u.scales.x; return [min, max]; };
  const scaled = (factor, middle) => { const [low, high] = view(); const m = middle ?? (low + high) / 2; zoom(m - (m - low) * factor, m + (high - m) * factor); };
  const shifted = (share) => { const [low, high] = view(); zoom(low + (high - low) * share, high + (high - low) * share); };

  const moment = document.getElementById("moment"), spoken = document.getElementById("spoken");
  function say(t) {
    if (t === null) {
      moment.textContent = "";
      for (const chart of charts) chart.panel.curves.forEach((curve, i) => { chart.labels[i].textContent = curve.label; });
      return "";
    }
    const [low, high] = view(), words = [`${dayText(t)} ${clockText(t, high - low < 60 ? .1 : 1)}`];
    const slack = (high - low) / 2000;
    moment.textContent = words[0];
    for (const { panel, labels, decoded } of charts) {
      panel.curves.forEach((curve, i) => {
        const all = [...new Set([...textAt(curve, decoded[i], t, panel.unit), ...statesAt(panel, t, i, slack)])];
        labels[i].textContent = `${curve.label}: ${all.join(", ")}`;
        words.push(labels[i].textContent);
      });
      for (const word of statesAt(panel, t, null, slack)) words.push(`analyser ${word}`);
    }
    return words.join("; ");
  }

  function chartOf(panel, host) {
    const decoded = panel.curves.map(decode);
    const tables = decoded.flatMap((curve) => curve.tables);
    const table = joined(tables);
    panel.dashed = panel.curves.some((curve) => curve.parts.some((part) => part.u.length));
    const series = [{}];
    panel.curves.forEach((curve, i) => decoded[i].tables.forEach(() => {
      const isolated = table[0].flatMap((t, place) => (decoded[i].isolated.has(t) ? [place] : []));
      const common = { stroke: () => colourOf(curve.colour), width: 1.5, points: { show: true, size: 5, filter: () => isolated, fill: () => colourOf(curve.colour) } };
      series.push({ ...common, label: curve.label }, { ...common, label: curve.label, dash: [5, 4] });
    }));
    const { list, labels } = legendOf(panel);
    const box = element("div", "chart"), canvas = element("canvas", "rows");
    box.tabIndex = 0;
    box.setAttribute("role", "application");
    box.setAttribute("aria-label", `${panel.heading}: plot. Arrow keys move the cursor, plus and minus zoom, Home shows all.`);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", panel.rows.map((row) => row.label).join(", ") || "no states");
    host.append(box, canvas, list);
    const axis = { stroke: () => css("--text"), grid: { stroke: () => css("--line"), width: 1 }, ticks: { stroke: () => css("--line"), width: 1 }, font: "12px system-ui, sans-serif" };
    const gutter = () => (box.clientWidth < 600 ? 96 : 170);
    const u = new uPlot({
      width: box.clientWidth, height: 260, legend: { show: false }, padding: [12, 26, 0, 0],
      scales: { x: { time: false, range: (_u, low, high) => [low, high] } },
      cursor: { sync: { key: "servomex" }, drag: { x: true, y: false, setScale: true }, points: { size: 7 } },
      axes: [{ ...axis, incrs: STEPS, splits, values, space: 70, size: 46 }, { ...axis, label: panel.unit, labelFont: "13px system-ui, sans-serif", size: () => gutter() - 30, labelSize: 30 }],
      series,
      hooks: {
        drawClear: [(self) => drawBands(self, panel)],
        draw: [(self) => { drawLetters(self, panel); drawAlarms(self, panel); drawRows(self, panel, canvas); }],
        setScale: [(self, key) => {
          if (key !== "x" || moving || charts.length < data.panels.length) return;
          zoom(self.scales.x.min, self.scales.x.max);
        }],
        setCursor: [(self) => { if (self === charts.active) { const { left } = self.cursor; say(left < 0 ? null : self.posToVal(left, "x")); } }],
      },
    }, table, box);
    u.over.addEventListener("dblclick", () => zoom(...full));
    u.over.addEventListener("mouseenter", () => { charts.active = u; });
    box.addEventListener("keydown", (event) => keyed(event, u));
    return { u, panel, labels, decoded, box };
  }

  function keyed(event, u) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const width = u.over.clientWidth, here = u.cursor.left < 0 ? width / 2 : u.cursor.left;
    const step = event.shiftKey ? width / 10 : width / 200;
    const move = { ArrowLeft: -step, ArrowRight: step }[event.key];
    const middle = u.posToVal(here, "x");
    if (move !== undefined) {
      charts.active = u;
      const left = Math.min(Math.max(here + move, 0), width);
      u.setCursor({ left, top: u.over.clientHeight / 2 });
      spoken.textContent = say(u.posToVal(left, "x"));
    } else if (event.key === "+" || event.key === "=") scaled(.5, middle);
    else if (event.key === "-") scaled(2, middle);
    else if (event.key === "PageUp") shifted(-.5);
    else if (event.key === "PageDown") shifted(.5);
    else if (event.key === "Home") zoom(...full);
    else return;
    event.preventDefault();
  }

  const hosts = document.querySelectorAll(".panel");
  data.panels.forEach((panel, i) => charts.push(chartOf(panel, hosts[i])));
  zoom(...full);
  const actions = { closer: () => scaled(.5), wider: () => scaled(2), earlier: () => shifted(-.5), later: () => shifted(.5), all: () => zoom(...full) };
  for (const [name, action] of Object.entries(actions)) document.getElementById(name).addEventListener("click", action);
  addEventListener("resize", () => { for (const { u, box } of charts) u.setSize({ width: box.clientWidth, height: 260 }); });
  dark.addEventListener("change", () => { for (const { u } of charts) u.redraw(); });
  document.documentElement.dataset.ready = "yes";
  globalThis.servomexPlot = { charts, zoom, view };
})();
