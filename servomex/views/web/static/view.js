// The page: what is shown of the model. Text of an analyser enters it by textContent only.

import { Chart } from "./chart.js";
import { duration, moment } from "./clock.js";
import { loudest } from "./model.js";

const SYMBOLS = { good: "\u2713", notice: "i", warning: "!", alarm: "\u25b2", stale: "?" };
const QUALITIES = { good: "\u2713", uncertain: "~", bad: "\u2715", stale: "?" };
const WORDS = { good: "All good", notice: "Not measuring", warning: "Maintenance", alarm: "Alarm" };
const NARROW = window.matchMedia("(max-width: 40rem)");

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

// Change the page only where something is different: a reader of the screen hears of each change.
export function put(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

function mark(node, name, value) {
  if (node.dataset[name] !== value) {
    node.dataset[name] = value;
  }
}

function field(list, label, className) {
  const row = element("div", className);
  const value = element("dd");
  row.append(element("dt", "", label), value);
  list.append(row);
  return value;
}

function pace({ period, rate }) {
  if (period !== null) {
    return `a broadcast every ${period.toFixed(1)} s`;
  }
  if (rate === null) {
    return "pace unknown";
  }
  return rate > 1 ? `${rate} readings a second` : `a reading every ${Number((1 / rate).toFixed(1))} s`;
}

class ChannelCard {
  constructor(channel, analyser, states) {
    this.node = element("article", "channel");
    const title = element("h3", "title");
    this.id = element("span", "id", channel.id);
    this.name = element("span", "name");
    title.append(this.id, " ", this.name);
    title.id = `title-${ChannelCard.count}`;
    ChannelCard.count += 1;
    this.node.setAttribute("aria-labelledby", title.id);
    const facts = element("dl", "facts");
    const value = field(facts, "Value", "value");
    this.number = element("span", "number");
    this.unit = element("span", "unit");
    value.append(this.number, " ", this.unit);
    this.quality = field(facts, "Quality", "quality");
    this.age = field(facts, "Age", "age");
    this.extremes = field(facts, "Lowest to highest", "extremes");
    this.lamps = this.makeLamps(states);
    const place = element("div", "chart");
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", `Strip chart of ${analyser} ${channel.id} ${channel.name}`);
    this.chart = new Chart(place);
    this.node.append(title, facts, this.list, place);
  }

  makeLamps(states) {
    this.list = element("ul", "lamps");
    this.list.setAttribute("aria-label", "States");
    return states.map((state) => {
      const lamp = element("li", "lamp");
      lamp.dataset.level = state.level;
      const sign = element("span", "sign");
      sign.setAttribute("aria-hidden", "true");
      const on = element("span", "unseen");
      lamp.append(sign, element("span", "word", state.word), on);
      this.list.append(lamp);
      return { word: state.word, lamp, sign, on };
    });
  }

  update(channel, stale, now) {
    put(this.name, channel.name);
    put(this.number, channel.text === "-" ? "no value" : channel.text);
    put(this.unit, channel.text === "-" ? "" : channel.unit);
    const quality = stale ? "stale" : channel.quality;
    put(this.quality, `${QUALITIES[quality]} ${quality}`);
    put(this.age, duration(now - channel.readAt));
    const extremes = channel.lowest === null ? "-" : [channel.lowest, channel.highest]
      .map((value) => value.toFixed(channel.decimals)).join(" to ");
    put(this.extremes, extremes);
    mark(this.node, "level", channel.level);
    mark(this.node, "quality", quality);
    for (const { word, lamp, sign, on } of this.lamps) {
      const raised = channel.states.includes(word);
      mark(lamp, "on", String(raised));
      put(sign, raised ? "\u25cf" : "\u25cb");
      put(on, raised ? " on" : " off");
    }
  }
}
ChannelCard.count = 0;

class AnalyserSection {
  constructor(name) {
    this.cards = new Map();
    this.node = element("section", "analyser");
    this.title = element("h2", "", name);
    this.title.id = `analyser-${AnalyserSection.count}`;
    AnalyserSection.count += 1;
    this.node.setAttribute("aria-labelledby", this.title.id);
    this.state = element("p", "state");
    this.about = element("p", "about");
    this.grid = element("div", "channels");
    this.node.append(this.title, this.state, this.about, this.grid);
  }

  update(analyser, states, now, lost) {
    const { fields } = analyser;
    const stale = lost || analyser.isStale(now);
    const words = fields.states.length ? `Analyser: ${fields.states.join(", ")}.` : "Analyser: no fault, no maintenance.";
    put(this.state, stale ? this.silence(analyser, now, lost) : words);
    put(this.about, `${fields.where}, ${fields.mode}, ${pace(fields)}; ${fields.readings} readings, ${fields.failed} failed, ${fields.late} late`);
    mark(this.node, "stale", String(stale));
    mark(this.state, "level", stale ? "alarm" : fields.states.length ? "warning" : "good");
    for (const [id, channel] of analyser.channels) {
      if (!this.cards.has(id)) {
        this.cards.set(id, new ChannelCard(channel, analyser.name, states));
        this.grid.append(this.cards.get(id).node);
      }
      this.cards.get(id).update(channel, lost || analyser.isChannelStale(channel, now), now);
    }
  }

  silence(analyser, now, lost) {
    const { fields } = analyser;
    if (!fields.started) {
      return `Not reached yet. ${fields.error ?? ""}`;
    }
    const since = new Date(Date.now() - analyser.silent(now) * 1000);
    const why = lost ? "The page has lost the server." : fields.error ?? "It is silent.";
    return `Stale: the last reading is of ${moment(since)}. ${why}`;
  }

  charts(analyser, until, span) {
    for (const [id, card] of this.cards) {
      card.chart.show(analyser.courses.get(id), until, span);
    }
  }
}
AnalyserSection.count = 0;

export class View {
  constructor() {
    this.sections = new Map();
    this.place = document.getElementById("analysers");
    this.head = document.getElementById("head");
    this.parts = Object.fromEntries(["symbol", "word", "detail", "link"].map((id) => [id, document.getElementById(id)]));
    this.list = document.getElementById("events");
    this.newest = 0;
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    put(document.getElementById("zone"), zone ? ` (${zone})` : "");
  }

  update(model, now) {
    const lost = model.isLost(now);
    document.documentElement.dataset.lost = String(lost);
    this.removeOthers(model);
    for (const analyser of model.shown()) {
      if (!this.sections.has(analyser.name)) {
        this.sections.set(analyser.name, new AnalyserSection(analyser.name));
        this.place.append(this.sections.get(analyser.name).node);
      }
      this.sections.get(analyser.name).update(analyser, model.states, now, lost);
    }
    this.verdict(model, now, lost);
    this.events(model);
  }

  removeOthers(model) {
    for (const [name, section] of this.sections) {
      if (!model.analysers.has(name)) {
        section.node.remove();
        this.sections.delete(name);
      }
    }
  }

  verdict(model, now, lost) {
    const problems = model.problems(now);
    const level = lost ? "stale" : loudest(problems.map((problem) => problem.level));
    mark(this.head, "level", level);
    put(this.parts.symbol, SYMBOLS[level]);
    const word = lost ? "Stale" : WORDS[level];
    put(this.parts.word, word);
    put(this.parts.detail, lost ? "nothing below is current" : this.detail(model, problems));
    put(this.parts.link, this.linkText(model, now, lost));
    const title = level === "good" ? "Servomex" : `${word.toUpperCase()} \u2013 Servomex`;
    if (document.title !== title) {
      document.title = title;
    }
  }

  detail(model, problems) {
    if (!problems.length) {
      const count = model.shown().length;
      return `${count} analyser${count === 1 ? "" : "s"}`;
    }
    const most = NARROW.matches ? 2 : 4;
    const more = problems.length - most;
    const shown = problems.slice(0, most).map((problem) => problem.text).join("; ");
    return more > 0 ? `${shown}; and ${more} more` : shown;
  }

  linkText(model, now, lost) {
    if (model.heardAt === null) {
      return "Waiting for the server.";
    }
    if (!lost) {
      return "Connected.";
    }
    return `No data since ${moment(model.heardDate)} (${duration(now - model.heardAt)}): the server or the network is down.`;
  }

  events(model) {
    const last = model.events[model.events.length - 1]?.number ?? 0;
    if (last === this.newest) {
      return;
    }
    this.newest = last;
    const rows = model.events.map((event) => {
      const row = element("li", "event");
      row.dataset.level = event.level;
      const time = element("time", "", moment(new Date(event.at)));
      time.dateTime = event.at;
      const sign = element("span", "sign", event.over ? "\u25cb" : SYMBOLS[event.level]);
      sign.setAttribute("aria-hidden", "true");
      row.append(time, " ", sign, " ", element("strong", "", event.device), " ", element("span", "", event.text));
      return row;
    });
    this.list.replaceChildren(...rows.reverse());
    this.list.hidden = !rows.length;
    document.getElementById("no-events").hidden = Boolean(rows.length);
  }

  charts(model, until, span) {
    for (const [name, section] of this.sections) {
      section.charts(model.analysers.get(name), until, span);
    }
  }
}
