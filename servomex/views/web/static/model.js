// What is known of the analysers, and how old it is by the page's own clock.

export const LEVELS = ["good", "notice", "warning", "alarm"];
export const MOST_POINTS = 20000;
const BAD = "bad";
const DRIFT = 0.0005;

export function loudest(levels) {
  return LEVELS[Math.max(0, ...levels.map((level) => LEVELS.indexOf(level)))];
}

// The course of one channel: times in seconds, values, the values that are uncertain, and the raised states.
export class Course {
  constructor() {
    this.clear();
  }

  clear() {
    this.times = [];
    this.good = [];
    this.uncertain = [];
    this.states = [];
    this.identity = null;
    this.last = "none";
  }

  push(time, value, quality, states) {
    if (this.times.length && time <= this.times[this.times.length - 1]) {
      return;
    }
    const index = this.times.length;
    const kind = value === null ? "none" : quality === "good" ? "good" : "uncertain";
    if (kind === "uncertain" && this.last === "good") {
      this.uncertain[index - 1] = this.good[index - 1];
    }
    this.times.push(time);
    this.good.push(kind === "good" ? value : null);
    this.uncertain.push(kind === "uncertain" || (kind === "good" && this.last === "uncertain") ? value : null);
    this.states.push(states);
    this.last = kind;
    if (this.times.length > MOST_POINTS * 1.1) {
      for (const list of [this.times, this.good, this.uncertain, this.states]) {
        list.splice(0, list.length - MOST_POINTS);
      }
    }
  }

  // A gap: nothing is drawn from the point before it to the one after it.
  gap(time) {
    if (this.last !== "none" || this.states[this.states.length - 1]?.length) {
      this.push(time, null, BAD, []);
    }
  }

  take(time, channel, fresh) {
    const identity = `${channel.name}\n${channel.unit}`;
    if (this.identity !== identity) {
      this.clear();
      this.identity = identity;
    }
    const before = this.times[this.times.length - 1];
    if (before !== undefined && time - before > fresh) {
      this.gap(before + 0.001);
    }
    this.push(time, channel.value, channel.quality, channel.states);
  }
}

class Analyser {
  constructor(name) {
    this.name = name;
    this.channels = new Map();
    this.courses = new Map();
    this.lastTime = null;
  }

  about(fields, at, { newer }) {
    const seenAt = at - fields.silent;
    this.seenAt = newer || this.seenAt === undefined ? seenAt : Math.min(this.seenAt, seenAt);
    this.fields = fields;
  }

  channel(fields, at) {
    this.channels.set(fields.id, { ...fields, readAt: at - fields.age });
    if (!this.courses.has(fields.id)) {
      this.courses.set(fields.id, new Course());
    }
  }

  silent(now) {
    return now - this.seenAt;
  }

  isStale(now) {
    return !this.fields.started || this.fields.error !== null || this.silent(now) > this.fields.fresh;
  }

  isChannelStale(channel, now) {
    return this.isStale(now) || now - channel.readAt > this.fields.fresh;
  }
}

export class Model {
  constructor() {
    this.analysers = new Map();
    this.events = [];
    this.states = [];
    this.run = null;
    this.heardAt = null;
    this.heardDate = null;
    this.dead = 6;
    this.ahead = -Infinity;
    this.aheadAt = 0;
    this.wall = null;
  }

  // When, by the page's clock, a message was sent, if it had come as fast as the fastest: a late one shows nothing
  // as fresher than it is. The two clocks may run at slightly different speeds.
  sentAt(message, now) {
    const ahead = message.now - now;
    this.ahead = Math.max(ahead, this.ahead - DRIFT * (now - this.aheadAt));
    this.aheadAt = now;
    if (message.wall !== undefined) {
      this.wall = message.wall - now; // the server's time of day, from the page's clock
    }
    return now - (this.ahead - ahead);
  }

  heard(now) {
    this.heardAt = now;
    this.heardDate = new Date();
  }

  isLost(now) {
    return this.heardAt === null || now - this.heardAt > this.dead;
  }

  hello(message, now) {
    this.heard(now);
    this.ahead = -Infinity;
    const at = this.sentAt(message, now);
    const restarted = this.run !== null && this.run !== message.run;
    this.run = message.run;
    this.dead = message.dead ?? this.dead;
    this.states = message.states;
    this.events = message.events;
    const names = new Set(message.analysers.map((item) => item.name));
    for (const name of [...this.analysers.keys()].filter((known) => !names.has(known) || restarted)) {
      this.analysers.delete(name);
    }
    for (const item of message.analysers) {
      const analyser = this.analyser(item.name);
      this.analysers.delete(item.name); // and set again, so that they have the order of the server
      this.analysers.set(item.name, analyser);
      analyser.about(item, at, { newer: true });
      item.channels.forEach((channel) => analyser.channel(channel, at));
    }
  }

  beat(message, now) {
    this.heard(now);
    const at = this.sentAt(message, now);
    for (const item of message.analysers) {
      this.analysers.get(item.name)?.about(item, at, { newer: false });
    }
  }

  frame(message, now) {
    this.heard(now);
    const at = this.sentAt(message, now);
    const analyser = this.analyser(message.name);
    analyser.about(message, at, { newer: true });
    message.channels.forEach((channel) => analyser.channel(channel, at));
    this.past(message);
    const known = this.events.length ? this.events[this.events.length - 1].number : 0;
    this.events.push(...message.events.filter((event) => event.number > known));
    this.events.splice(0, Math.max(0, this.events.length - 200));
  }

  // Add a reading to the courses of its channels; one from the past changes nothing else.
  past(message) {
    const analyser = this.analyser(message.name);
    if (analyser.lastTime !== null && message.t < analyser.lastTime) {
      analyser.courses.forEach((course) => course.clear()); // the server's clock was set back
    }
    analyser.lastTime = message.t;
    for (const channel of message.channels) {
      if (!analyser.courses.has(channel.id)) {
        analyser.courses.set(channel.id, new Course());
      }
      analyser.courses.get(channel.id).take(message.t, channel, message.fresh);
    }
    if (message.error !== null) {
      analyser.courses.forEach((course) => course.gap(message.t));
    }
  }

  analyser(name) {
    if (!this.analysers.has(name)) {
      this.analysers.set(name, new Analyser(name));
    }
    return this.analysers.get(name);
  }

  // The analysers of which more is known than their past.
  shown() {
    return [...this.analysers.values()].filter((analyser) => analyser.fields);
  }

  // What is wrong or unusual now, the loudest first; without numbers that change by themselves.
  problems(now) {
    const found = [];
    for (const analyser of this.shown()) {
      const { fields } = analyser;
      if (analyser.isStale(now)) {
        found.push({ level: "alarm", text: `${analyser.name}: ${fields.started ? "no readings" : "not reached yet"}` });
        continue;
      }
      if (fields.states.length) {
        found.push({ level: this.levelOf(fields.states), text: `${analyser.name}: analyser ${fields.states.join(", ")}` });
      }
      for (const channel of analyser.channels.values()) {
        const label = `${analyser.name} ${channel.id} ${channel.name}`.trim();
        if (analyser.isChannelStale(channel, now)) {
          found.push({ level: "alarm", text: `${label}: stale` });
        } else if (channel.states.length || channel.quality !== "good") {
          const words = channel.states.length ? channel.states.join(", ") : channel.quality;
          found.push({ level: channel.level, text: `${label}: ${words}` });
        }
      }
    }
    return found.sort((one, other) => LEVELS.indexOf(other.level) - LEVELS.indexOf(one.level));
  }

  levelOf(words) {
    const level = (word) => this.states.find((state) => state.word === word)?.level ?? "notice";
    return loudest(words.map(level));
  }
}
