// Asks for the line's snapshot twice a second, and shows it. What is old never looks new.
import { account, acknowledgeFirst, begin, drawAlarms, readScores, readWho, takeSettings } from "./changes.js";
import { drawAll, drawPicture, drawState, drawVerdict } from "./parts.js";

const $ = (id) => document.getElementById(id);
const EVERY_MS = 500, LOST_MS = 3000, SCORES_MS = 5000;
let snapshot = null, etag = null, heardAt = performance.now(), layer = "overlay", isWanted = false;

async function look() {
  const stop = new AbortController(), late = setTimeout(() => stop.abort(), LOST_MS);
  try {
    const answer = await fetch("/api/snapshot", { headers: etag ? { "If-None-Match": etag } : {}, signal: stop.signal });
    if (answer.status === 401) {
      heardAt = performance.now();
      if (!isWanted) { isWanted = true; await account(); }
    } else if (answer.ok) {
      const heard = await answer.json();
      heard.received = Date.now();
      etag = answer.headers.get("ETag");
      if (heard.line) { snapshot = heard; draw(); }
    }
    if (answer.ok || answer.status === 304) heardAt = performance.now();
  } catch { /* shown as lost below */ } finally {
    clearTimeout(late);
  }
  const isLost = performance.now() - heardAt > LOST_MS;
  $("lost").hidden = !isLost;
  document.body.classList.toggle("lost", isLost);
  if (isLost) drawState({ state: "Unknown", cause: "no connection" });
  else if (snapshot) drawState(snapshot.line);
  drawVerdict(snapshot, isLost);
}

function draw() {
  drawAll(snapshot);
  drawAlarms(snapshot.alarms);
  takeSettings(snapshot.settings);
  drawPicture(snapshot, layer);
  document.body.dataset.ready = "yes";
}

async function loop() {
  if (!document.hidden) await look();
  setTimeout(loop, EVERY_MS);
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : !matchMedia("(prefers-color-scheme: light)").matches;
}

function setTheme(name) {
  if (name) document.documentElement.dataset.theme = name;
  $("theme").firstChild.textContent = isDark() ? "Light " : "Dark ";
}

const KEYS = {
  o: () => $("findings").click(), t: () => $("theme").click(), w: () => $("wall").click(),
  l: () => $("account").click(), a: acknowledgeFirst, h: () => $("slider").focus(),
};

function setUp() {
  try { setTheme(localStorage.getItem("theme")); } catch { setTheme(null); }
  $("theme").addEventListener("click", () => {
    const name = isDark() ? "light" : "dark";
    setTheme(name);
    try { localStorage.setItem("theme", name); } catch { /* for this visit only */ }
  });
  $("wall").addEventListener("click", () => {
    const isLarge = document.body.classList.toggle("wall");
    $("wall").setAttribute("aria-pressed", String(isLarge));
  });
  $("findings").addEventListener("click", () => {
    layer = layer === "overlay" ? "frame" : "overlay";
    $("findings").setAttribute("aria-pressed", String(layer === "overlay"));
    if (snapshot) drawPicture(snapshot, layer);
  });
  document.addEventListener("keydown", (event) => {
    // A dialog that was closed may keep the focus for a while; nobody types into it.
    const isTyping = event.target.closest("input:not([type=range]), select") && !event.target.closest("dialog");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const act = KEYS[event.key.toLowerCase()];
    if (act) { event.preventDefault(); act(); }
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) heardAt = performance.now(); });
  begin(() => { isWanted = false; etag = null; });
}

setUp();
await readWho().catch(() => {});
loop();
readScores().catch(() => {});
setInterval(() => { if (!document.hidden) readScores().catch(() => {}); }, SCORES_MS);
