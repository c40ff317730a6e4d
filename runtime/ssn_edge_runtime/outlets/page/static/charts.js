// Small charts as SVG; nothing is loaded, and nothing is written as HTML.
const NS = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...inside) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

// A shape for each verdict, so that no one has to tell colours apart.
const SHAPES = {
  pass: [["circle", { cx: 12, cy: 12, r: 11 }], "M6.5 12.5l3.8 3.8 7.4-8"],
  fail: [["path", { d: "M7.5 1h9L23 7.5v9L16.5 23h-9L1 16.5v-9z" }], "M8 8l8 8M16 8l-8 8"],
  unknown: [["path", { d: "M12 1.2 23.4 22H.6z" }], "M12 9v5.5M12 18.4v.1"],
  wait: [["rect", { x: 2, y: 2, width: 20, height: 20, rx: 4 }], "M7 12h10"],
  go: [["circle", { cx: 12, cy: 12, r: 11 }], "M9.5 7.5l7 4.5-7 4.5z"],
  stop: [["rect", { x: 2, y: 2, width: 20, height: 20, rx: 2 }], "M9 8v8M15 8v8"],
};

export function mark(into, kind) {
  if (into.dataset.kind === kind) return into;
  into.dataset.kind = kind;
  const [[name, attributes], cut] = SHAPES[kind] ?? SHAPES.wait;
  into.replaceChildren(svg(name, attributes), svg("path", { d: cut, class: "cut" }));
  return into;
}

export function newMark(kind) {
  return mark(svg("svg", { class: "mark", viewBox: "0 0 24 24", "aria-hidden": "true" }), kind);
}

export function drawMinutes(into, minutes, now) {
  const slots = 60, width = 600, height = 150, at = new Map(minutes.map((each) => [each[0], each]));
  const shares = minutes.map(([, parts, fails, unknowns]) => (fails + unknowns) / Math.max(1, parts));
  const top = Math.min(1, Math.max(0.1, ...shares.map((each) => 1.15 * each)));
  const drawn = [0.5, 1].map((part) => svg("line", { class: "grid", x1: 0, x2: width, y1: height * (1 - part / 1.15), y2: height * (1 - part / 1.15) }));
  for (let slot = 0; slot < slots; slot++) {
    const [, parts = 0, fails = 0, unknowns = 0] = at.get(now - slots + 1 + slot) ?? [];
    const x = (slot * width) / slots + 1, wide = width / slots - 2;
    if (!parts) {
      drawn.push(svg("rect", { class: "none", x, y: height - 2, width: wide, height: 2 }));
      continue;
    }
    const fail = Math.min(1, fails / parts / top) * height, unknown = Math.min(1, unknowns / parts / top) * height;
    drawn.push(svg("rect", { class: "bar-fail", x, y: height - fail, width: wide, height: fail }));
    drawn.push(svg("rect", { class: "bar-unknown", x: x + wide / 4, y: Math.max(0, height - fail - unknown), width: wide / 2, height: unknown }));
    drawn.push(svg("rect", { class: "bar-pass", x, y: height - 3, width: wide, height: 3 }));
  }
  into.replaceChildren(...drawn);
  const last = minutes.at(-1);
  const text = last ? `${(100 * shares.at(-1)).toFixed(1)} % in the last minute with parts; top of the chart ${(100 * top).toFixed(0)} %` : "no parts yet";
  into.setAttribute("aria-label", `Share of rejects for each of the last 60 minutes: ${text}`);
  return { top, last: last ? shares.at(-1) : null };
}

export function drawScores(into, scores, inForce, tried) {
  const width = 600, height = 120, count = scores.pass.length;
  if (!count) return into.replaceChildren();
  const most = Math.max(1, ...scores.pass.map((each, bin) => each + scores.reject[bin]));
  const high = (each) => (each ? Math.max(3, (Math.sqrt(each / most)) * (height - 8)) : 0);
  const place = (score) => ((score - scores.low) / (scores.width * count)) * width;
  const drawn = [];
  scores.pass.forEach((passed, bin) => {
    const x = (bin * width) / count + 1, wide = width / count - 2, up = high(passed), over = high(passed + scores.reject[bin]) - up;
    drawn.push(svg("rect", { class: "bar-pass", x, y: height - up, width: wide, height: up }));
    if (scores.reject[bin]) drawn.push(svg("rect", { class: "bar-fail", x, y: height - up - over, width: wide, height: over }));
  });
  for (const [score, name] of [[inForce, "rule"], [tried, "rule try"]]) {
    if (score !== null) drawn.push(svg("line", { class: name, x1: place(score), x2: place(score), y1: 0, y2: height }));
  }
  into.replaceChildren(...drawn);
  into.setAttribute("aria-label", `Scores of the last ${scores.parts} parts from ${scores.low.toPrecision(3)} to ${(scores.low + scores.width * count).toPrecision(3)}; higher is more anomalous`);
}
