// The page: hears of readings, and shows them by its own clock.

import { Clock } from "./clock.js";
import { Model } from "./model.js";
import { Speech } from "./speech.js";
import { View } from "./view.js";

const TICK_MS = 500;
const HISTORY = 5000;
const AGAIN_MS = 3000;
const HIDDEN_S = 5;

const clock = new Clock();
const model = new Model();
const view = new View();
const speech = new Speech(document.getElementById("spoken"));
const span = document.getElementById("span");
const login = document.getElementById("login");

let source = null;
let place = null;
let timer = null;
let jumps = 0;
let hiddenAt = null;

function onMessage(kind, event) {
  const now = clock.now();
  const message = JSON.parse(event.data);
  if (event.lastEventId) {
    place = event.lastEventId;
  }
  model[kind](message, now);
}

function connect() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource(place === null ? "events" : `events?since=${encodeURIComponent(place)}`);
  for (const kind of ["hello", "frame", "beat"]) {
    source.addEventListener(kind, (event) => onMessage(kind, event));
  }
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      again();
    }
  });
}

function again() {
  clearTimeout(timer);
  source?.close();
  timer = setTimeout(start, AGAIN_MS);
}

// Fetch what is held, then hear of what follows it.
async function start() {
  try {
    const answer = await fetch(place === null ? `api/frames?newest=${HISTORY}` : `api/frames?since=${encodeURIComponent(place)}&most=1`);
    if (answer.status === 401) {
      askForToken("");
      return;
    }
    if (!answer.ok) {
      throw new Error(`status ${answer.status}`);
    }
    login.hidden = true;
    if (place === null) {
      const history = await answer.json();
      history.frames.forEach((message) => model.past(message));
      place = history.next;
    }
    connect();
  } catch {
    again();
  }
}

function askForToken(why) {
  login.hidden = false;
  document.getElementById("refused").textContent = why;
  document.getElementById("token").focus();
}

async function logIn(token) {
  const answer = await fetch("login", { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });
  if (answer.ok) {
    login.hidden = true;
    await start();
  } else {
    askForToken("This is not the token.");
  }
}

// A token in the part of the address that is never sent is taken out of it, before anything else is asked for.
function tokenInAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    history.replaceState(null, "", location.pathname);
  }
  return given;
}

function draw() {
  const now = clock.now();
  if (clock.jumps !== jumps) { // this device slept: what waits in the connection is old
    jumps = clock.jumps;
    connect();
  }
  view.update(model, now);
  const lost = model.isLost(now);
  const alarms = lost ? ["the page has lost the server"] : model.problems(now).filter((item) => item.level === "alarm").map((item) => item.text);
  speech.update(alarms, now);
  if (model.wall !== null) {
    view.charts(model, model.wall + now, Number(span.value));
  }
}

document.addEventListener("visibilitychange", () => {
  const now = clock.now();
  if (document.hidden) {
    hiddenAt = now;
  } else {
    if (hiddenAt !== null && now - hiddenAt > HIDDEN_S && source !== null) {
      connect();
    }
    hiddenAt = null;
    draw();
  }
});

login.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("token");
  logIn(field.value.trim()).catch(() => askForToken("The server does not answer."));
  field.value = "";
});

span.addEventListener("change", draw);
setInterval(draw, TICK_MS);

const token = tokenInAddress();
if (token === null) {
  start();
} else {
  logIn(token).catch(again);
}
