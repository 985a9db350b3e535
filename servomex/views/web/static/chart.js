// Strip charts: bands behind the curve while a state is raised, a mark above it while an alarm is.

const BANDS = ["fault", "maintenance", "warming up", "calibrating"];
const LETTERS = { fault: "F", maintenance: "M", "warming up": "W", calibrating: "C" };
const HEIGHT = 140;
const MARK = 6;

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function bandColour(word) {
  return colour(`--band-${word.replace(" ", "-")}`);
}

// The stretches of time in which a state is raised, each from its first point to the one after its last.
export function stretches(times, states, wanted) {
  const found = [];
  let from = null;
  for (let index = 0; index < times.length; index += 1) {
    const raised = states[index].some(wanted);
    if (raised && from === null) {
      from = times[index];
    } else if (!raised && from !== null) {
      found.push([from, times[index]]);
      from = null;
    }
  }
  if (from !== null) {
    found.push([from, times[times.length - 1]]);
  }
  return found;
}

function firstAfter(times, time) {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < time) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

export class Chart {
  constructor(place) {
    this.place = place;
    this.states = [];
    this.range = [0, 1];
    this.plot = null;
    this.visible = false;
    new IntersectionObserver((entries) => {
      this.visible = entries[entries.length - 1].isIntersecting;
    }).observe(place);
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(place);
    this.restyled = window.matchMedia("(prefers-color-scheme: dark)");
    this.restyled.addEventListener("change", () => this.rebuild());
  }

  size() {
    return { width: Math.max(120, this.place.clientWidth), height: HEIGHT };
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
  }

  // Show the newest of a course, up to a moment of the server's clock.
  show(course, until, span) {
    if (!this.visible || !course.times.length) {
      return;
    }
    const first = Math.max(0, firstAfter(course.times, until - span) - 1);
    const part = (list) => (first ? list.slice(first) : list);
    this.range = [until - span, until];
    this.states = part(course.states);
    const data = [part(course.times), part(course.good), part(course.uncertain)];
    if (this.plot) {
      this.plot.setData(data);
    } else {
      this.plot = new uPlot(this.options(), data, this.place);
    }
  }

  options() {
    const ink = colour("--muted");
    const grid = { stroke: colour("--line"), width: 1 };
    const font = "12px system-ui, sans-serif";
    const twoDigits = (number) => String(number).padStart(2, "0");
    const clockTime = (seconds, step) => {
      const date = new Date(seconds * 1000);
      const minutes = `${twoDigits(date.getHours())}:${twoDigits(date.getMinutes())}`;
      return step < 60 ? `${minutes}:${twoDigits(date.getSeconds())}` : minutes;
    };
    const line = { stroke: colour("--curve"), width: 2, points: { show: false }, spanGaps: false };
    return {
      ...this.size(),
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: true, range: () => this.range }, y: { range: (_plot, low, high) => roomy(low, high) } },
      axes: [
        {
          stroke: ink, grid, ticks: grid, font, space: 70, size: 28,
          values: (_plot, splits) => splits.map((at) => clockTime(at, splits[1] - splits[0])),
        },
        { stroke: ink, grid, ticks: grid, font, size: 62 },
      ],
      series: [{}, line, { ...line, dash: [5, 4] }],
      hooks: { drawClear: [(plot) => this.drawBands(plot)], draw: [(plot) => this.drawAlarms(plot)] },
    };
  }

  drawBands(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.textAlign = "left";
    ctx.textBaseline = "alphabetic";
    for (const word of BANDS) {
      for (const [left, width] of this.places(plot, (state) => state === word)) {
        ctx.globalAlpha = Number(colour("--band-alpha"));
        ctx.fillStyle = bandColour(word);
        ctx.fillRect(left, bbox.top, width, bbox.height);
        ctx.globalAlpha = 1;
        if (width > 14 * devicePixelRatio) {
          ctx.fillStyle = colour("--text");
          ctx.font = `bold ${12 * devicePixelRatio}px system-ui, sans-serif`;
          const room = BANDS.indexOf(word) * 14 * devicePixelRatio;
          ctx.fillText(LETTERS[word], left + 3 * devicePixelRatio, bbox.top + bbox.height - 4 * devicePixelRatio - room);
        }
      }
    }
    ctx.restore();
  }

  drawAlarms(plot) {
    const { ctx, bbox } = plot;
    const height = MARK * devicePixelRatio;
    ctx.save();
    ctx.fillStyle = colour("--alarm");
    for (let number = 1; number <= 4; number += 1) {
      for (const [left, width] of this.places(plot, (state) => state === `alarm ${number}`)) {
        const top = bbox.top + (number - 1) * (height + 2);
        ctx.fillRect(left, top, width, height);
        ctx.beginPath();
        ctx.moveTo(left - height, top);
        ctx.lineTo(left + height, top);
        ctx.lineTo(left, top + 2 * height);
        ctx.fill();
      }
    }
    ctx.restore();
  }

  // Where the stretches of a state are on the canvas: left edge and width.
  places(plot, wanted) {
    const { bbox } = plot;
    const right = bbox.left + bbox.width;
    return stretches(plot.data[0], this.states, wanted).map(([from, until]) => {
      const left = Math.max(bbox.left, plot.valToPos(from, "x", true));
      const end = Math.min(right, plot.valToPos(until, "x", true));
      return [left, Math.max(2 * devicePixelRatio, end - left)];
    });
  }
}

// A range around the values that does not make noise look like a signal.
function roomy(low, high) {
  if (low === null || high === null) {
    return [0, 1];
  }
  const least = Math.max(Math.abs(low), Math.abs(high)) * 0.01 || 0.1;
  const room = Math.max((high - low) * 0.15, (least - (high - low)) / 2, 0);
  return [low - room, high + 2 * room]; // the marks of alarms are at the top
}
