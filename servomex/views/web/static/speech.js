// What a reader of the screen says by itself: alarms that begin and end. Neither values, nor the same thing twice.

const PAUSE_S = 4;

export class Speech {
  constructor(node) {
    this.node = node;
    this.known = new Set();
    this.spokenAt = -Infinity;
  }

  update(alarms, now) {
    if (now - this.spokenAt < PAUSE_S) {
      return;
    }
    const present = new Set(alarms);
    const begun = alarms.filter((text) => !this.known.has(text));
    const ended = [...this.known].filter((text) => !present.has(text));
    if (!begun.length && !ended.length) {
      return;
    }
    this.known = present;
    this.spokenAt = now;
    const parts = begun.map((text) => `Alarm: ${text}.`).concat(ended.map((text) => `Over: ${text}.`));
    this.node.textContent = parts.slice(0, 5).join(" ") + (parts.length > 5 ? ` And ${parts.length - 5} more.` : "");
  }
}
