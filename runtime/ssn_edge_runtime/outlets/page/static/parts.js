// What a snapshot looks like: everything here is text and shapes, made anew only where it changed.
import { drawMinutes, mark, newMark } from "./charts.js";

const $ = (id) => document.getElementById(id);
const STATES = {
  ContinuousExecution: ["go", "Running"], SingleExecution: ["go", "Running"], Ready: ["wait", "Ready"], Initialized: ["wait", "Starting"],
  Preoperational: ["wait", "Not ready"], Halted: ["stop", "Halted"], Error: ["stop", "Error"], Unknown: ["stop", "No answer"],
};
const REASONS = {
  none: "", defect: "defect found", no_frame: "no picture came", bad_frame: "picture is damaged", frame_size: "picture has another size", stale_frame: "picture is old",
  frozen_frame: "camera stands still", bad_exposure: "too dark or too bright", blurred_frame: "out of focus", deadline: "too late", overrun: "too many at once",
  engine_error: "engine failed", invalid_output: "engine gave nonsense", storage_error: "cannot be recorded", restart: "restarted meanwhile", missed_trigger: "picture was missed",
  clock: "clock is wrong", overheated: "device too hot", review: "for a person to look at",
};
const STAGES = ["capture", "preprocess", "infer", "postprocess", "deliver", "total"];
const OLD_S = 15;
const seen = {};

function changed(name, value) {
  const text = JSON.stringify(value);
  if (seen[name] === text) return false;
  seen[name] = text;
  return true;
}

function element(name, text = "", kind = null) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

export const reasonText = (reason) => REASONS[reason] ?? String(reason).replaceAll("_", " ");
export const timeOf = (utc) => (utc ? new Date(utc).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false }) : "");
const number = (value) => (value === null || value === undefined ? "–" : Number(value).toFixed(Math.abs(value) < 10 ? 2 : 1));
const part = (each) => (each.part_id ? `Part ${each.part_id}` : `Part ${each.sequence}`);

export function drawState(line) {
  const [kind, word] = STATES[line.state] ?? ["wait", line.state];
  $("state").dataset.kind = kind;
  mark($("state").querySelector(".mark"), kind);
  $("state-word").textContent = word;
  const since = line.since_age_s === undefined ? "" : ` · ${duration(line.since_age_s)}`;
  $("cause").textContent = line.cause + since;
  document.title = `${word} – line`;
}

function duration(seconds) {
  if (seconds < 90) return `${seconds} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// Nothing but a fresh record of a line that may pass shows as PASS.
export function drawVerdict(snapshot, isLost) {
  let kind = "wait", word = "–", why = "";
  const { line, last } = snapshot ?? {};
  const age = last ? (Date.now() - snapshot.received + Date.parse(snapshot.at) - Date.parse(last.decided_at)) / 1000 : 0;
  if (isLost || !snapshot) why = "no connection";
  else if (!line.answers) [kind, word, why] = ["wait", "NO LINE", line.cause];
  else if (!line.may_pass) [word, why] = [(STATES[line.state] ?? ["", line.state])[1].toUpperCase(), line.cause];
  else if (!last || !last.verdict) [word, why] = ["WAITING", "no part yet"];
  else if (last.withheld) [kind, word, why] = ["unknown", "NO SIGNAL", "passed, but the signal was not given in time"];
  else {
    [kind, word] = [last.verdict, last.verdict.toUpperCase()];
    why = [part(last), reasonText(last.reason), age >= 2 ? `${duration(Math.round(age))} ago` : ""].filter(Boolean).join(" · ");
  }
  const box = $("verdict");
  box.dataset.kind = kind;
  box.dataset.size = word.length < 5 ? "short" : word.length < 10 ? "mid" : "long";
  box.toggleAttribute("data-old", ["pass", "fail", "unknown"].includes(kind) && age > OLD_S);
  mark(box.querySelector(".mark"), kind);
  if ($("word").textContent !== word) $("word").textContent = word;
  $("why").textContent = why;
}

export function drawAll(snapshot) {
  if (changed("facts", [snapshot.judge, snapshot.settings])) drawFacts(snapshot);
  if (changed("recent", snapshot.recent)) drawStrip(snapshot.recent);
  if (changed("shift", snapshot.shift)) drawCounts(snapshot.shift);
  const minute = Math.floor(Date.parse(snapshot.at) / 60000);
  if (changed("minutes", [minute, snapshot.minutes])) {
    const { top, last } = drawMinutes($("minutes"), snapshot.minutes, minute);
    $("rate").textContent = last === null ? "" : `${(100 * last).toFixed(1)} % now, top ${(100 * top).toFixed(0)} %`;
    $("from").textContent = "an hour ago";
  }
  if (changed("latency", snapshot.latency_ms)) drawLatency(snapshot.latency_ms);
  if (changed("rejects", snapshot.rejects)) drawGallery(snapshot.rejects);
  $("trouble").hidden = !snapshot.trouble;
  $("trouble").textContent = snapshot.trouble ?? "";
}

function drawFacts({ judge, settings }) {
  const said = [settings.recipe ? `recipe ${settings.recipe}` : "", judge.precision ? `${judge.precision} on ${judge.engine}` : ""];
  if (settings.version) said.push(`settings ${settings.version}`);
  $("facts").textContent = said.filter(Boolean).join(" · ");
}

function drawStrip(recent) {
  const shown = recent.slice(-40);
  $("strip").replaceChildren(...shown.map(([, verdict]) => {
    const bar = element("i");
    bar.dataset.kind = verdict;
    return bar;
  }));
  const count = (kind) => shown.filter(([, verdict]) => verdict === kind).length;
  const rejected = count("fail") + count("unknown");
  $("strip").setAttribute("aria-label", `Last ${shown.length} parts: ${count("pass")} pass, ${count("fail")} fail, ${count("unknown")} unknown`);
  $("streak").replaceChildren(element("b", String(rejected)), ` of the last ${shown.length} rejected`);
}

function drawCounts(shift) {
  const all = Object.values(shift.verdicts).reduce((sum, each) => sum + each, 0);
  $("counts").replaceChildren(...["pass", "fail", "unknown"].map((kind) => {
    const box = element("div"), label = element("span"), count = shift.verdicts[kind] ?? 0;
    box.dataset.kind = kind;
    label.append(newMark(kind), kind);
    const share = all ? `${((100 * count) / all).toFixed(1)} %` : "–";
    box.append(element("b", count.toLocaleString()), label, element("small", share));
    return box;
  }));
  $("shift").textContent = shift.name ? `since ${shift.name.slice(11, 16)}${shift.is_whole ? "" : ", in part"}` : "";
  const reasons = Object.entries(shift.reasons).sort((one, other) => other[1] - one[1]).slice(0, 4);
  $("reasons").textContent = reasons.map(([reason, count]) => `${reasonText(reason)} ${count.toLocaleString()}`).join(", ");
}

function drawLatency(stages) {
  const known = STAGES.filter((stage) => stages[stage]).map((stage) => [stage, stages[stage]]);
  $("latency").tBodies[0].replaceChildren(...known.map(([stage, times]) => {
    const row = element("tr", "", stage === "total" ? "total" : null);
    row.append(element("td", stage), ...["p50", "p99", "max"].map((name) => element("td", number(times[name]))));
    return row;
  }));
}

function drawGallery(rejects) {
  const list = document.querySelector("#gallery ul");
  const kept = new Map([...list.children].map((each) => [each.dataset.key, each]));
  list.replaceChildren(...rejects.map((each) => {
    const key = `${each.sequence} ${each.decided_at} ${each.overlay}`;
    const old = kept.get(key);
    if (old) return old;
    const item = element("li"), button = element("button"), what = element("span", "", "what");
    item.dataset.key = key;
    what.dataset.kind = each.verdict;
    what.append(newMark(each.verdict), each.verdict === "fail" ? "Fail" : "Unknown");
    button.append(each.overlay ? thumbnail(each) : element("span", "no picture", "blank"));
    button.append(what, element("span", `${timeOf(each.decided_at)} · ${each.sequence}`, "when"));
    button.append(element("span", reasonText(each.reason), "when"));
    button.addEventListener("click", () => zoom(each));
    item.append(button);
    return item;
  }));
  $("none-kept").hidden = rejects.length > 0;
  $("none-kept").textContent = "None in this log yet.";
}

function thumbnail(each) {
  const image = element("img");
  image.alt = "";
  image.src = `/api/rejects/${each.sequence}/small`;
  return image;
}

function zoom(each) {
  $("zoomed-picture").hidden = !each.overlay;
  if (each.overlay) $("zoomed-picture").src = `/api/rejects/${each.sequence}/whole`;
  const said = [part(each), each.verdict, reasonText(each.reason), `score ${number(each.raw_score)} at threshold ${number(each.threshold)}`, `${each.defect_count} regions`, each.source, timeOf(each.decided_at), each.detail];
  $("zoomed-text").textContent = said.filter(Boolean).join(" · ");
  $("zoomed").showModal();
}

export function drawPicture(snapshot, layer) {
  const { live } = snapshot;
  if (!live) return;
  const address = `/api/live/${layer}?v=${live.version}`, image = $("shown");
  if (image.dataset.address === address || image.dataset.loading === address) return;
  image.dataset.loading = address;
  const next = new Image();
  next.onload = () => {
    if (image.dataset.loading !== address) return;
    image.src = next.src;
    image.dataset.address = address;
    image.hidden = false;
    $("no-picture").hidden = true;
    const found = snapshot.recent.find(([sequence]) => sequence === live.sequence);
    const verdict = found ? found[1] : "";
    $("caption").replaceChildren(...(verdict ? [newMark(verdict)] : []), [`Part ${live.sequence}`, verdict, live.camera].filter(Boolean).join(" · "));
    $("caption").dataset.kind = verdict;
    image.alt = `Part ${live.sequence}${layer === "overlay" ? " with what was found" : ""}`;
  };
  next.onerror = () => { image.dataset.loading = ""; };
  next.src = address;
}
