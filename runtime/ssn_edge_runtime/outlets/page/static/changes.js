// Everything that changes something: log in, alarms, recipe, threshold.
import { drawScores, newMark } from "./charts.js";
import { timeOf } from "./parts.js";

const $ = (id) => document.getElementById(id);
const RANK = { viewer: 1, operator: 2, engineer: 3 };
const STEPS = 400;
let who = { role: null, name: null, has_tokens: false };
let csrf = sessionStorage.getItem("csrf");
let settings = null, scores = null, tried = null, alarmsShown = "", whySaid = "", openAlarms = [], asking = false, askAgain = false, onLogin = () => {};

const may = (role) => Boolean(csrf) && who.name !== null && RANK[who.role] >= RANK[role];

async function post(path, document) {
  const headers = { "Content-Type": "application/json" };
  if (csrf) headers["X-CSRF-Token"] = csrf;
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(document) });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.error ?? `refused (${answer.status})`);
  return said;
}

export async function readWho() {
  const answer = await fetch("/api/session");
  if (answer.ok) who = await answer.json();
  drawWho();
  return who;
}

function drawWho() {
  const button = $("account"), name = document.createElement("kbd");
  name.textContent = "L";
  const loggedIn = who.name !== null && csrf;
  button.replaceChildren(loggedIn ? `${who.name}, ${who.role}: log out ` : "Log in ", name);
  $("login-hint").textContent = who.has_tokens ? "The token that ssn-edge page token printed."
    : "Nobody can log in: the line was started without --page-tokens FILE.";
  alarmsShown = "";
  drawApply();
}

export async function account() {
  if (who.name !== null && csrf) {
    await post("/api/logout", {}).catch(() => {});
    csrf = null;
    sessionStorage.removeItem("csrf");
    await readWho();
    return;
  }
  $("login-said").textContent = "";
  if (!$("login").open) $("login").showModal();
}

async function logIn(event) {
  event.preventDefault();
  try {
    const said = await post("/api/login", { token: $("token").value.trim() });
    csrf = said.csrf;
    sessionStorage.setItem("csrf", csrf);
    $("token").value = "";
    $("login").close();
    await readWho();
    onLogin();
  } catch (error) {
    $("login-said").textContent = error.message;
  }
}

export function drawAlarms(alarms) {
  const text = JSON.stringify([alarms, may("operator")]);
  if (text === alarmsShown) return;
  alarmsShown = text;
  const open = alarms.filter((each) => each.acknowledged_by === null);
  $("alarms").hidden = !alarms.length;
  $("alarms").classList.toggle("calm", !open.length);
  const shown = [...open.slice(0, 3), ...alarms.filter((each) => each.acknowledged_by !== null).slice(0, 2)];
  openAlarms = open.map((each) => each.line);
  $("all-seen").hidden = open.length < 2;
  $("all-seen").textContent = `All ${open.length} seen`;
  document.querySelector("#alarms ul").replaceChildren(...shown.map((alarm) => {
    const item = document.createElement("li"), said = document.createElement("span");
    item.append(newMark(alarm.halts ? "stop" : "unknown"), said);
    said.textContent = `${timeOf(alarm.at)} ${alarm.text}`;
    if (alarm.acknowledged_by !== null) {
      item.className = "seen";
      said.textContent += ` – seen by ${alarm.acknowledged_by}`;
    } else {
      const button = document.createElement("button");
      button.textContent = "Seen";
      button.setAttribute("aria-label", `Acknowledge: ${alarm.text}`);
      button.addEventListener("click", () => acknowledge(alarm.line));
      item.append(button);
    }
    return item;
  }));
}

async function acknowledge(...lines) {
  if (!may("operator")) return account();
  try {
    for (const line of lines) await post("/api/acknowledge", { line });
  } catch (error) {
    say(error.message);
  }
}

export function acknowledgeFirst() {
  document.querySelector("#alarms li button")?.click();
}

const say = (text) => { $("said").textContent = text; };
const signedBy = (keyId) => (keyId ? `signed by key ${keyId.slice(0, 16)}` : "not signed");

export function takeSettings(told) {
  // A part that nobody judged names no threshold: the one before it still is in force.
  if (told.threshold === null && settings?.settings_id === told.settings_id) told = { ...told, threshold: settings.threshold };
  const before = JSON.stringify(settings);
  settings = told;
  if (JSON.stringify(told) === before) return;
  $("in-force").textContent = told.threshold === null ? "" : `in force ${told.threshold.toPrecision(4)}` +
    (!told.is_in_force ? "" : `, settings version ${told.version}, ${told.is_signed ? "signed" : "not signed"}`);
  const names = told.recipes ?? [];
  $("recipes").hidden = $("switch").hidden = !names.length;
  $("recipe").replaceChildren(...["", ...names].map((name) => {
    const option = document.createElement("option");
    option.value = name;
    option.textContent = name || "general settings";
    option.selected = name === (told.recipe ?? "");
    return option;
  }));
  if (tried === null && told.threshold !== null) setTried(told.threshold);
  drawApply();
  ask();
}

function setTried(value) {
  tried = value;
  const slider = $("slider");
  if (scores && scores.width) {
    slider.min = scores.low;
    slider.max = scores.low + scores.width * scores.pass.length;
    slider.step = (slider.max - slider.min) / STEPS;
  }
  slider.value = value;
  $("value").textContent = value.toPrecision(4);
  drawApply();
}

function drawApply() {
  const moved = settings && tried !== null && settings.threshold !== null && tried !== settings.threshold;
  const refused = settings?.why_not ?? "";
  const why = refused || (settings?.is_in_force ? "" : "the line has not taken these settings up yet");
  $("apply").disabled = !moved || Boolean(why);
  $("apply").title = why;
  // Whoever could apply it is told before anything is moved.
  const isTold = refused ? moved || may("engineer") : moved && why && ["", whySaid].includes($("said").textContent);
  if (isTold) say(why);
  else if (whySaid && !why && $("said").textContent === whySaid) say("");
  whySaid = isTold ? why : "";
}

export async function readScores() {
  const answer = await fetch("/api/scores");
  if (!answer.ok) return;
  scores = await answer.json();
  if (tried !== null) setTried(tried);
  ask();
}

async function ask() {
  if (tried === null) return;
  if (asking) { askAgain = true; return; }
  asking = true;
  try {
    const answer = await fetch(`/api/what-if?threshold=${tried}&last=1000`);
    if (answer.ok) drawEffect(await answer.json());
  } finally {
    asking = false;
  }
  if (askAgain) { askAgain = false; ask(); }
}

function drawEffect(found) {
  if (scores) drawScores($("scores"), scores, settings?.threshold ?? null, tried);
  const share = (counts) => `${((100 * (found.parts - counts.pass)) / Math.max(1, found.parts)).toFixed(1)} %`;
  $("effect").textContent = !found.parts ? "No parts yet."
    : `Of the last ${found.parts} parts ${share(found.would_be)} would be rejected (was ${share(found.was)}): ` +
      `${found.pass_to_fail} that passed would fail, ${found.fail_to_pass} that failed would pass.`;
  $("sure-text").textContent = `Threshold ${settings?.threshold?.toPrecision(4)} becomes ${tried.toPrecision(4)}. ${$("effect").textContent} ` +
    "That is by score alone. The line takes the new version up between two parts; it stands in the log with your name. " +
    `The version is ${signedBy(settings?.signing_key_id)}.`;
}

function nudge(direction) {
  $("slider").value = Number($("slider").value) + direction * Number($("slider").step);
  move();
}

function move() {
  say("");
  setTried(Number($("slider").value));
  ask();
}

async function apply() {
  $("sure").close();
  try {
    const said = await post("/api/threshold", { threshold: tried, settings_id: settings.settings_id });
    say(`Settings version ${said.version} is made, ${signedBy(said.key_id)}; the line takes it up.`);
  } catch (error) {
    say(error.message);
  }
}

async function switchRecipe() {
  if (!may("operator")) return account();
  try {
    await post("/api/recipe", { recipe: $("recipe").value || null });
    say("The recipe is in force from the next picture on.");
  } catch (error) {
    say(error.message);
  }
}

export function begin(whenLoggedIn) {
  onLogin = whenLoggedIn;
  $("login-form").addEventListener("submit", logIn);
  $("login-no").addEventListener("click", () => $("login").close());
  $("account").addEventListener("click", account);
  $("slider").addEventListener("input", move);
  $("less").addEventListener("click", () => nudge(-1));
  $("more").addEventListener("click", () => nudge(1));
  $("apply").addEventListener("click", () => (may("engineer") ? $("sure").showModal() : account()));
  $("sure-yes").addEventListener("click", apply);
  $("sure-no").addEventListener("click", () => $("sure").close());
  $("all-seen").addEventListener("click", () => acknowledge(...openAlarms));
  $("switch").addEventListener("click", switchRecipe);
  $("zoomed-close").addEventListener("click", () => $("zoomed").close());
}
