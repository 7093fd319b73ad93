// Curves and bars, drawn by uPlot (a global: it is vendored as it is published).
import { figure, h, quiet } from "./words.js";

const drawn = new Set();
const COLOURS = ["--accent", "--ok-fill", "--late-fill", "--failed-fill", "--downloading", "--uploading"];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function axes() {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  const whole = (_, values) => values.map((value) => (Number.isInteger(value) ? String(value) : ""));
  return [{ ...axis, size: 30, values: whole }, { ...axis, size: 52, values: (_, values) => values.map(figure) }];
}

/** Draw when the element is on the page, again at another width, and no longer once it is gone. */
function draw(label, data, series, options = {}) {
  const element = h("div", { class: "chart", role: "img", "aria-label": label });
  const size = () => ({ width: Math.max(element.clientWidth, 120), height: 190 });
  const chart = { element, size, plot: null, make: null };
  chart.make = () => {
    chart.plot?.destroy();
    chart.plot = new uPlot({
      ...size(), series: series(), axes: axes(), legend: { show: false }, cursor: { y: false, points: { show: false }, drag: { x: false } },
      scales: { x: { time: false }, ...options.scales }, hooks: options.hooks ?? {},
    }, data, element);
  };
  requestAnimationFrame(() => {
    if (!element.isConnected) return;
    eachDrawn(() => {}); // those that are gone are let go
    chart.make();
    drawn.add(chart);
  });
  return element;
}

function eachDrawn(act) {
  for (const chart of drawn) {
    if (chart.element.isConnected) act(chart);
    else {
      chart.plot.destroy();
      drawn.delete(chart);
    }
  }
}
addEventListener("resize", () => eachDrawn((c) => c.plot.setSize(c.size())));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => eachDrawn((c) => c.make()));

function legend(names, fill) {
  return h("ul", { class: "legend" }, names.map((name, i) => h("li", {}, fill(i), h("span", {}, name))));
}

/** Say in a legend what is pointed at, and no longer once it is not. */
const pointing = (key, names, value) => ({ setCursor: [({ cursor: { idx }, data }) =>
  [...key.children].forEach((item, i) => { item.lastChild.textContent = idx === null ? names[i] : `${i ? "" : `round ${data[0][idx]}: `}${names[i]} ${figure(value(i, idx))}`; })] });

/** Lines over rounds. `lines` are [name, [[round, value], ...]]. */
export function curves(title, lines) {
  const rounds = [...new Set(lines.flatMap(([, points]) => points.map(([round]) => round)))].sort((a, b) => a - b);
  const data = [rounds, ...lines.map(([, points]) => {
    const at = new Map(points);
    return rounds.map((round) => at.get(round) ?? null);
  })];
  const last = lines.map(([name, points]) => `${name} ${points.length ? figure(points.at(-1)[1]) : "–"}`).join(", ");
  const series = () => [{}, ...lines.map(([name], i) => ({
    label: name, stroke: colour(COLOURS[i % COLOURS.length]), width: 2, spanGaps: true, points: { size: rounds.length > 40 ? 0 : 5, show: rounds.length <= 40 },
  }))];
  const swatch = (i) => {
    const mark = h("span", { class: "swatch" });
    mark.style.background = `var(${COLOURS[i % COLOURS.length]})`;
    return mark;
  };
  const names = lines.map(([name]) => name);
  const key = legend(names, swatch);
  return h("figure", { class: "card" }, h("h2", {}, title), key,
    rounds.length ? draw(`${title} over rounds: ${last}`, data, series, { hooks: pointing(key, names, (i, at) => data[i + 1][at]) }) : quiet("Nothing was measured yet."));
}

/** Bars over rounds: good, failed and late replies, one on the other. */
export function replies(rounds) {
  const xs = rounds.map((r) => r.round);
  const sums = rounds.map((r) => [r.ok, r.ok + r.failed, r.ok + r.failed + r.late]);
  const data = [xs, sums.map((s) => s[2]), sums.map((s) => s[1]), sums.map((s) => s[0])];
  const bars = uPlot.paths.bars({ size: [0.7, 40] });
  const series = () => [{}, ...["--late-fill", "--failed-fill", "--ok-fill"].map((name) => ({ stroke: colour(name), fill: colour(name), width: 0, paths: bars, points: { show: false } }))];
  const total = (key) => rounds.reduce((sum, r) => sum + r[key], 0);
  const label = `Replies per round: ${total("ok")} ok, ${total("failed")} failed, ${total("late")} late in all`;
  const range = (_, least, most) => [Math.min(xs[0] ?? 0, least) - 0.6, (xs.at(-1) ?? most) + 0.6];
  const scales = { x: { time: false, range }, y: { range: (_, __, most) => [0, Math.max(most ?? 1, 4) * 1.06] } };
  const names = ["ok", "failed", "late"];
  const key = legend(names, (i) => h("span", { class: `swatch ${names[i]}-fill` }));
  const hooks = pointing(key, names, (i, at) => rounds[at][names[i]]);
  return h("figure", { class: "card" }, h("h2", {}, "Replies per round"), key,
    rounds.some(({ ok, failed, late }) => ok + failed + late) ? draw(label, data, series, { scales, hooks }) : quiet("No round yet."));
}
