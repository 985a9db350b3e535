// The page's own clock, in seconds. It is not stopped by sleep, and not moved back when the time is set.
// The steady clock of a browser may stand still while the computer sleeps; then the wall clock jumps ahead of it.

const JUMP_MS = 1000;

export class Clock {
  constructor(steady = () => performance.now(), wall = () => Date.now()) {
    this.steady = steady;
    this.wall = wall;
    this.before = [steady(), wall()];
    this.sleptMs = 0;
    this.jumps = 0;
  }

  now() {
    const steady = this.steady();
    const wall = this.wall();
    const ahead = wall - this.before[1] - (steady - this.before[0]);
    if (ahead > JUMP_MS) {
      this.sleptMs += ahead;
      this.jumps += 1;
    }
    this.before = [steady, wall];
    return (steady + this.sleptMs) / 1000;
  }
}

export function duration(seconds) {
  if (seconds < 10) {
    return `${Math.max(0, seconds).toFixed(1)} s`;
  }
  if (seconds < 120) {
    return `${Math.floor(seconds)} s`;
  }
  const minutes = Math.floor(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function timeOfDay(date) {
  const two = (number) => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function moment(date) {
  const today = new Date();
  const sameDay = date.toDateString() === today.toDateString();
  const day = `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;
  return sameDay ? timeOfDay(date) : `${day} ${timeOfDay(date)}`;
}
