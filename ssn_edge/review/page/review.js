// The page of `ssn-edge review`. Texts from outside go into the page as text alone, never as markup.

const get = (id) => document.getElementById(id);
const FILTERS = [
  ["All", () => true],
  ["Unlabelled", (p) => p.label === null && !p.is_conflict],
  ["Fails", (p) => verdictOf(p) === "fail"],
  ["Unknowns", (p) => verdictOf(p) === "unknown"],
  ["Near threshold", (p) => p.is_near],
  ["Random passes", (p) => p.why === "pass_random"],
  ["Disagreements", (p) => p.is_disagreement],
];
const LABELS = ["good", "defective", "unsure"];
const REASONS = {
  fail: "it failed", unknown: "no verdict could be given", other: "",
  pass_near: "it passed near the threshold", pass_random: "drawn by lot from those that passed",
};
const CACHED = 6;

const state = {
  all: [], shown: [], at: 0, filter: 0, busy: false, loading: 0,
  findings: true, fullSize: false, marking: false, drag: null, size: [1, 1],
};
const pixels = new Map(); // blob addresses by path, the latest last

// The address holds the token behind its #. It is kept for this tab, and off the screen.
const token = (() => {
  const given = location.hash.slice(1);
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", "/");
  }
  return given || sessionStorage.getItem("token") || "";
})();

function verdictOf(picture) {
  return picture.part ? picture.part.verdict : null;
}

async function ask(path, body) {
  const headers = { "X-Review-Token": token };
  const options = { headers };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Start ssn-edge review again and open its new address; all labels that were shown as saved are.");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error || `The server answers ${answer.status}.`);
  }
  return answer;
}

// What is wrong, by what it is about: a picture that arrives must not hide that a label did not.
const alarms = new Map();

function alarm(about, text) {
  alarms.set(about, text);
  get("alert").textContent = [...alarms.values()].filter(Boolean).join(" ");
  get("alert").hidden = !get("alert").textContent;
}

function say(text) {
  get("status").textContent = text;
}

function picture() {
  return state.shown[state.at];
}

// ---- pixels

function load(path) {
  let found = pixels.get(path);
  if (!found) {
    found = ask(path).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob));
    pixels.set(path, found);
    found.catch(() => pixels.delete(path));
  }
  while (pixels.size > CACHED * 3) {
    const [oldest, address] = pixels.entries().next().value;
    pixels.delete(oldest);
    address.then(URL.revokeObjectURL, () => {});
  }
  return found;
}

async function draw(image, address) {
  image.src = address;
  await image.decode();
}

// Only what is on the screen takes a label: a quick key must not judge a picture that nobody saw.
function drawn(key) {
  document.body.dataset.drawn = key;
  get("frame").classList.toggle("loading", key === "");
}

async function showPixels(shown) {
  const turn = ++state.loading;
  if (document.body.dataset.drawn !== shown.key) drawn("");
  const base = `/api/pictures/${shown.key}/`;
  try {
    const address = await load(base + "frame");
    if (turn !== state.loading) return;
    await draw(get("picture"), address);
    if (turn !== state.loading) return;
    state.size = [get("picture").naturalWidth, get("picture").naturalHeight];
    get("picture").alt = `Part ${shown.part ? shown.part.sequence : shown.name}`;
    get("picture").hidden = false;
    fit();
    drawn(shown.key);
    await showFindings(shown, turn);
    alarm("picture", "");
  } catch (error) {
    if (turn !== state.loading) return;
    get("picture").hidden = true;
    alarm("picture", `${shown.name} cannot be shown. ${error.message}`);
  }
  for (const next of state.shown.slice(state.at + 1, state.at + 3)) {
    load(`/api/pictures/${next.key}/frame`).catch(() => {});
  }
}

async function showFindings(shown, turn) {
  const overlay = get("overlay");
  overlay.hidden = true;
  let mask = null;
  if (state.findings && shown.has_overlay) {
    await draw(overlay, await load(`/api/pictures/${shown.key}/overlay`));
    if (turn !== state.loading) return;
    overlay.hidden = false;
  } else if (state.findings && shown.has_mask) {
    mask = new Image();
    await draw(mask, await load(`/api/pictures/${shown.key}/mask`));
    if (turn !== state.loading) return;
  }
  drawMarks(shown, mask);
}

// At the resolution of the screen: lines stay thin on a small picture, and visible on a large one.
function drawMarks(shown, mask) {
  const canvas = get("marks");
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = state.size;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  if (mask) pen.drawImage(tinted(mask), 0, 0, canvas.width, canvas.height);
  const [across, down] = [canvas.width / width, canvas.height / height];
  const outline = (boxes, colour, dash) => {
    for (const [thick, style] of [[5, "#000"], [3, colour]]) {
      pen.lineWidth = thick * ratio;
      pen.strokeStyle = style;
      pen.setLineDash(dash.map((each) => each * ratio));
      for (const [left, top, right, bottom] of boxes) {
        pen.strokeRect(left * across, top * down, (right - left) * across, (bottom - top) * down);
      }
    }
  };
  if (state.findings && shown.part && !shown.has_overlay) outline(shown.part.boxes, "#ff9f1c", []);
  outline(shown.regions, "#22d3ee", [10, 6]);
  if (state.drag) outline([boxOf(state.drag)], "#22d3ee", [4, 4]);
}

function tinted(mask) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [mask.naturalWidth, mask.naturalHeight];
  const pen = canvas.getContext("2d");
  pen.drawImage(mask, 0, 0);
  const image = pen.getImageData(0, 0, canvas.width, canvas.height);
  for (let at = 0; at < image.data.length; at += 4) {
    const isSet = image.data[at] > 127;
    image.data.set(isSet ? [255, 60, 0, 120] : [0, 0, 0, 0], at);
  }
  pen.putImageData(image, 0, 0);
  return canvas;
}

function fit() {
  const stage = get("stage");
  const [width, height] = state.size;
  const ratio = window.devicePixelRatio || 1;
  const scale = state.fullSize
    ? 1 / ratio
    : Math.min((stage.clientWidth - 16) / width, (stage.clientHeight - 16) / height);
  get("frame").style.width = `${Math.max(1, width * scale)}px`;
  get("frame").style.height = `${Math.max(1, height * scale)}px`;
  get("frame").classList.toggle("coarse", scale * ratio > 2);
}

// ---- texts

function show() {
  const shown = picture();
  get("empty").hidden = Boolean(shown);
  get("frame").hidden = !shown;
  progress();
  if (!shown) {
    for (const id of ["verdict", "reason", "scored", "place"]) get(id).textContent = "";
    get("facts").replaceChildren();
    get("said").replaceChildren();
    get("scale").hidden = true;
    buttons();
    return;
  }
  texts(shown);
  buttons();
  showPixels(shown);
}

function texts(shown) {
  const part = shown.part;
  const verdict = get("verdict");
  verdict.textContent = part ? part.verdict : "no record";
  verdict.parentElement.dataset.verdict = part ? part.verdict : "";
  get("reason").textContent = part && part.reason !== "none" ? part.reason : "";
  const score = part ? part.score : null;
  get("scale").hidden = score === null;
  if (score !== null) {
    get("point").style.left = `${100 * Math.min(1, Math.max(0, score))}%`;
    get("scale").setAttribute("aria-label", `Score ${score.toFixed(3)}, threshold 0.5`);
    const logits = part.raw_score === null || part.threshold === null
      ? "" : ` (${part.raw_score.toFixed(3)} against ${part.threshold.toFixed(3)} logits)`;
    get("scored").textContent = `score ${score.toFixed(3)}, threshold 0.5${logits}`;
  } else {
    get("scored").textContent = part ? "no score" : "";
  }
  const facts = [["Picture", shown.name], ["Kept because", REASONS[shown.why]]];
  if (part) {
    facts.push(
      ["Number", part.sequence], ["Part", part.part_id], ["Time", part.at], ["Camera", part.source],
      ["Detail", part.detail], ["Defects", part.defect_count || ""], ["Recipe", part.recipe],
      ["Package", part.package_id ? part.package_id.slice(0, 12) : ""],
    );
  }
  get("facts").replaceChildren(...facts.filter(([, value]) => value !== null && value !== "")
    .flatMap(([name, value]) => [element("dt", name), element("dd", String(value))]));
  const said = shown.said.map((each) => element("li", `${each.who}: ${each.label} (${each.at.slice(0, 16).replace("T", " ")})`));
  if (shown.is_conflict) said.push(element("li", "These contradict each other."));
  get("said").replaceChildren(...(said.length ? said : [element("li", "none yet")]));
  get("place").textContent = `${state.at + 1} of ${state.shown.length}`;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function buttons() {
  const shown = picture();
  for (const label of LABELS) {
    get(label).setAttribute("aria-pressed", String(Boolean(shown) && shown.mine === label));
    get(label).disabled = !shown;
  }
  get("findings").setAttribute("aria-pressed", String(state.findings));
  get("zoom").setAttribute("aria-pressed", String(state.fullSize));
  get("mark").setAttribute("aria-pressed", String(state.marking));
  get("frame").classList.toggle("marking", state.marking);
  get("clear").disabled = !shown || !shown.regions.length;
  get("previous").disabled = state.at <= 0;
  get("next").disabled = state.at >= state.shown.length - 1;
}

function progress() {
  const done = state.all.filter((each) => each.label !== null || each.is_conflict).length;
  get("progress").max = Math.max(1, state.all.length);
  get("progress").value = done;
  get("counted").textContent = `${done} of ${state.all.length} labelled`;
  FILTERS.forEach(([name, holds], index) => {
    const button = get("filters").children[index];
    button.firstChild.textContent = `${name} ${state.all.filter(holds).length} `;
    button.setAttribute("aria-pressed", String(index === state.filter));
  });
}

// ---- what a person does

function go(to) {
  if (to < 0 || to >= state.shown.length) {
    say(to < 0 ? "This is the first one." : "This is the last one.");
    return;
  }
  state.at = to;
  show();
}

function choose(filter) {
  const before = picture();
  state.filter = filter;
  state.shown = state.all.filter(FILTERS[filter][1]);
  state.at = Math.max(0, state.shown.indexOf(before));
  say(`${FILTERS[filter][0]}: ${state.shown.length} pictures.`);
  show();
}

// A picture stays in the list at hand when its label changes: nothing moves under the hand.
function replace(entry) {
  for (const list of [state.all, state.shown]) {
    const at = list.findIndex((each) => each.key === entry.key);
    if (at >= 0) list[at] = entry;
  }
}

async function save(path, body) {
  if (state.busy) return null;
  state.busy = true;
  say("Saving ...");
  try {
    const answer = await (await ask(path, body)).json();
    alarm("label", "");
    return answer.picture;
  } catch (error) {
    say("Not saved.");
    alarm("label", `Not saved. ${error.message}`);
    return null;
  } finally {
    state.busy = false;
  }
}

async function label(name, regions, stay) {
  const shown = picture();
  if (!shown) return;
  if (document.body.dataset.drawn !== shown.key) {
    say("The picture is not on the screen yet; no label was given.");
    return;
  }
  const entry = await save("/api/label", { key: shown.key, label: name, regions });
  if (!entry) return;
  replace(entry);
  say(`Saved: ${name}, ${shown.name}.`);
  if (!stay && state.at < state.shown.length - 1) state.at += 1;
  show();
}

async function undo() {
  if (state.busy) return;
  const entry = await save("/api/undo", {});
  if (entry === null) {
    if (get("alert").hidden) say("There is nothing to take back.");
    return;
  }
  replace(entry);
  let at = state.shown.findIndex((each) => each.key === entry.key);
  if (at < 0) {
    state.filter = 0;
    state.shown = [...state.all];
    at = state.shown.findIndex((each) => each.key === entry.key);
  }
  state.at = Math.max(0, at);
  say(`Taken back: ${entry.name}.`);
  show();
}

function jump(text) {
  const wanted = text.trim();
  const number = /^\d+$/.test(wanted) ? Number(wanted) : null;
  let at = state.shown.findIndex((each) => each.part && each.part.sequence === number);
  if (at < 0) at = state.shown.findIndex((each) => each.part && each.part.part_id === wanted);
  if (at < 0 && wanted && number === null) {
    at = state.shown.findIndex((each) => each.name.includes(wanted));
  }
  if (at < 0) say(`No picture with the number, name or part ${wanted} is shown here.`);
  else go(at);
  get("stage").focus();
}

const actions = {
  good: () => label("good", [], false),
  defective: () => label("defective", picture() ? picture().regions : [], false),
  unsure: () => label("unsure", [], false),
  undo,
  previous: () => go(state.at - 1),
  next: () => go(state.at + 1),
  findings: () => {
    state.findings = !state.findings;
    say(state.findings ? "Findings are shown." : "Findings are hidden.");
    show();
  },
  zoom: () => {
    state.fullSize = !state.fullSize;
    show();
  },
  mark: () => {
    state.marking = !state.marking;
    say(state.marking ? "Draw a rectangle over the defect; it is saved with the label defective." : "");
    buttons();
  },
  clear: () => {
    if (picture() && picture().regions.length) label("defective", [], true);
  },
};
const KEYS = {
  g: "good", d: "defective", u: "unsure", s: "unsure", z: "undo", Backspace: "undo",
  ArrowLeft: "previous", p: "previous", ArrowRight: "next", n: "next",
  o: "findings", f: "zoom", m: "mark", x: "clear",
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target instanceof HTMLInputElement) {
    if (event.key === "Escape") get("stage").focus();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const filter = "0123456".indexOf(key);
  if (key === "j") get("jump").focus();
  else if (key.length === 1 && filter >= 0) choose(filter);
  else if (KEYS[key] && !(event.repeat && LABELS.includes(KEYS[key]))) actions[KEYS[key]]();
  else return;
  event.preventDefault();
});

for (const [id, act] of Object.entries(actions)) get(id).addEventListener("click", () => act());
get("jump-form").addEventListener("submit", (event) => {
  event.preventDefault();
  jump(get("jump").value);
});

// ---- rough regions

function boxOf(drag) {
  const [left, right] = [drag.from[0], drag.to[0]].sort((a, b) => a - b);
  const [top, bottom] = [drag.from[1], drag.to[1]].sort((a, b) => a - b);
  return [left, top, right, bottom];
}

function placeOf(event) {
  const area = get("marks").getBoundingClientRect();
  return [
    [event.clientX - area.left, area.width, state.size[0]],
    [event.clientY - area.top, area.height, state.size[1]],
  ].map(([at, length, count]) => Math.round(Math.min(1, Math.max(0, at / length)) * count));
}

get("marks").addEventListener("pointerdown", (event) => {
  if (!state.marking || !picture()) return;
  get("marks").setPointerCapture(event.pointerId);
  state.drag = { from: placeOf(event), to: placeOf(event) };
});
get("marks").addEventListener("pointermove", (event) => {
  if (!state.drag) return;
  state.drag.to = placeOf(event);
  drawMarks(picture(), null);
});
get("marks").addEventListener("pointercancel", () => {
  state.drag = null;
});
get("marks").addEventListener("pointerup", () => {
  if (!state.drag) return;
  const box = boxOf(state.drag);
  state.drag = null;
  if (box[2] - box[0] < 2 || box[3] - box[1] < 2) show();
  else label("defective", [...picture().regions, box], true);
});

// ---- beginning

FILTERS.forEach(([name], index) => {
  const button = document.createElement("button");
  button.append(name, element("kbd", String(index)));
  button.setAttribute("aria-keyshortcuts", String(index));
  button.addEventListener("click", () => choose(index));
  get("filters").append(button);
});
new ResizeObserver(() => {
  if (picture()) {
    fit();
    showFindings(picture(), state.loading).catch(() => {});
  }
}).observe(get("stage"));

try {
  const told = await (await ask("/api/pictures")).json();
  state.all = told.pictures;
  document.title = `Review: ${told.source}`;
  get("source").textContent = told.source;
  get("order").textContent = told.order;
  get("saved-in").textContent = `Labels of ${told.who} are saved in ${told.labels} at once.`;
  const open = state.all.some(FILTERS[1][1]);
  choose(open ? 1 : 0);
  say("");
  document.body.dataset.ready = "yes";
} catch (error) {
  alarm("list", error.message);
}
