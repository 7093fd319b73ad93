// What there is to see of one run. Pure: data in, elements out; the page and the report use it.
import { curves, replies } from "./charts.js";
import { bundle, bytes, card, clock, day, dollars, facts, figure, h, link, plural, quiet, span, state, table } from "./words.js";

/** The metrics of a stage over rounds: {name: [[round, value], ...]}. */
function series(run, stage) {
  const found = {};
  for (const point of run.measured) {
    if (point.stage !== stage) continue;
    for (const [name, value] of Object.entries(point.metrics)) {
      if (typeof value === "number") (found[name] ??= []).push([point.round, value]);
    }
  }
  return found;
}

const STAGES = ["evaluate", "server", "train"];
const stages = (run) => STAGES.filter((stage) => run.measured.some((point) => point.stage === stage));

/** Curves whose names hold a word, of every stage: [["evaluate accuracy", points], ...]. */
function named(run, word) {
  return stages(run).flatMap((stage) =>
    Object.entries(series(run, stage)).filter(([name]) => name.toLowerCase().includes(word)).map(([name, points]) => [name.startsWith(stage) ? name : `${stage} ${name}`, points]));
}

export const accuracies = (run) => named(run, "accuracy");
export const losses = (run) => named(run, "loss");

export const others = (run) => named(run, "").filter(([name]) => !/accuracy|loss/i.test(name));

/** The last value of the first curve, or undefined. */
export const latest = (lines) => lines[0]?.[1].at(-1)?.[1];

/** The six numbers that the original's dashboard shows, of what is known now. */
export function six(run, now) {
  const asked = run.phases.at(-1)?.devices ?? 0;
  const numbers = [
    ["Accuracy", figure(latest(accuracies(run)))],
    ["Loss", figure(latest(losses(run)))],
    ["Devices asked", figure(asked)],
    ["Replies ok", figure(run.ok)],
    ["Failed or late", `${figure(run.failed)} + ${figure(run.late)}`],
    ["Run time", span((run.ended_at ?? now) - run.started_at)],
  ];
  return facts("six", numbers);
}

/** Accuracy and loss, or whatever else was measured. */
export function charts(run) {
  const [right, wrong] = [accuracies(run), losses(run)];
  const rest = right.length || wrong.length ? [] : others(run);
  const drawn = [right.length ? curves("Accuracy", right) : null, wrong.length ? curves("Loss", wrong) : null, rest.length ? curves("What was measured", rest.slice(0, 6)) : null];
  return drawn.some(Boolean) ? drawn : curves("Accuracy", []);
}

export const answers = (run) => replies(rounds(run));

/** Replies by round, of all its phases. */
export function rounds(run) {
  const found = new Map();
  for (const { round, ok, failed, late } of run.phases) {
    const row = found.get(round) ?? { round, ok: 0, failed: 0, late: 0 };
    found.set(round, { round, ok: row.ok + ok, failed: row.failed + failed, late: row.late + late });
  }
  return [...found.values()];
}

const CLASSES = { "on its way": "way", queued: "queued", downloading: "downloading", working: "working-fill", uploading: "uploading", offline: "away", late: "late-fill" };

function lane(exchange, start, end) {
  const length = Math.max(end - start, 1e-6);
  const track = h("div", { class: "track" });
  const said = [];
  for (const [what, from, to] of exchange.parts) {
    const part = h("i", { class: CLASSES[what], title: `${what}: ${span(to - from)}` });
    part.style.left = `${(100 * Math.max(from - start, 0)) / length}%`;
    part.style.width = `${(100 * Math.max(Math.min(to, end) - Math.max(from, start), 0)) / length}%`;
    track.append(part);
    said.push(`${what} ${span(to - from)}`);
  }
  track.setAttribute("role", "img");
  track.setAttribute("aria-label", said.join(", ") || "nothing yet");
  const took = (exchange.ended_at ?? end) - exchange.sent_at;
  const again = exchange.sendings > 1 ? `, sent ${exchange.sendings} times` : "";
  const outcome = exchange.outcome ?? (exchange.stage === "answered" ? "answered" : exchange.stage ? "working" : "open");
  return h("div", { class: "lane", title: exchange.reason?.split("\n")[0] },
    document.getElementById("report") ? h("span", {}, exchange.device) : link("devices", exchange.device), track,
    h("span", {}, state(outcome === "open" ? "offline" : outcome, exchange.outcome ? undefined : exchange.stage ?? "sent"), h("span", { class: "quiet n" }, ` ${span(took)}${again}`)));
}

/** Who did what in a phase, and when. `told` is what the gateway says of it. */
export function timeline(phase, told) {
  const ends = told.exchanges.flatMap((exchange) => exchange.parts.map(([, , to]) => to));
  const start = Math.min(phase.opened_at, ...told.exchanges.map((exchange) => exchange.sent_at));
  const end = Math.max(phase.closed_at ?? told.now, ...ends);
  const more = told.count - told.exchanges.length;
  return [
    told.why || phase.why_closed ? h("p", { class: "why" }, [told.why, phase.why_closed ? `It closed because ${phase.why_closed}` : ""].filter(Boolean).map((text) => `${text}. `)) : null,
    h("ul", { class: "legend" }, Object.entries(CLASSES).map(([name, css]) => h("li", {}, h("span", { class: `swatch ${css}` }), name))),
    h("div", {}, told.exchanges.map((exchange) => lane(exchange, start, end)),
      told.exchanges.length ? h("div", { class: "axis" }, h("span", {}, clock(start)), h("span", {}, `+ ${span(end - start)}`)) : quiet("Nobody was asked.")),
    more > 0 ? quiet(`and ${plural(more, "device")} that took no longer`) : null,
  ];
}

const share = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(part ? 1 : 0)} %` : "–");

export const total = (phases, read) => phases.reduce((sum, phase) => sum + read(phase), 0);
const passed = (phases, ...keys) => total(phases, ({ traffic }) => (traffic ? total(keys, (key) => traffic[key]) : 0));

/** Before numbers of phases that were opened again after a death: what passed until then is not known. */
const least = (phases) => (phases.some((p) => p.counted_from > p.opened_at) ? "≥ " : "");

export const size = (phases) => least(phases) + bytes(passed(phases, "sent_bytes", "heard_bytes", "download_bytes", "upload_bytes"));
export const price = (phases) => (phases.some((p) => p.dollars !== null) ? least(phases) + dollars(total(phases, (p) => p.dollars)) : "–");

/** What each round took: messages, requests, bytes, work in vain, dollars. */
export function costs(run) {
  const priced = run.phases.filter((phase) => phase.traffic);
  const rounds = [...new Set(priced.map((phase) => phase.round))].reverse().slice(0, 12);
  const columns = [["Round"], ["Open for", true, false], ["Messages", true], ["Requests", true, false], ["Bytes", true, false], ["Device work", true, false], ["In vain", true], ["On AWS", true]];
  const cells = (name, phases) => {
    const [worked, wasted] = [total(phases, (p) => p.worked_s), total(phases, (p) => p.wasted_s)];
    return [name, span(total(phases, (p) => p.closed_at - p.opened_at)), least(phases) + figure(passed(phases, "commands", "controls", "replies", "heartbeats")),
      least(phases) + figure(passed(phases, "downloads", "uploads")), size(phases), span(worked), share(wasted, worked), price(phases)];
  };
  const shown = rounds.map((round) => cells(round || "before", priced.filter((phase) => phase.round === round)));
  return card("What it costs",
    priced.length ? table(`All ${plural(priced.length, "phase")}, and the latest ${plural(rounds.length, "round")}`, columns, [cells("all", priced), ...shown]) : quiet("No phase is over yet."),
    quiet(`All that passed while a phase was open. Requests move what is too large for a message. Dollars: ${run.prices}, as if metered there.${least(priced) && " ≥: it stopped meanwhile; what passed until it was back is not counted."}`));
}

/** Who was asked nothing because it cannot run the app. */
export function unfit(run) {
  const rows = Object.entries(run.unfit);
  return rows.length ? card("Left out", table(`${plural(run.left_out, "device")} that cannot run this app`, [["Device"], ["Why"]], rows)) : null;
}

/** What a phase is: "round 3, train". */
export const called = ({ round, type }) => (round ? `round ${round}, ${type}` : type);

/** What a run is, in a line. */
export function heading(run) {
  return h("div", { class: "top" }, h("h1", {}, run.app || "a run"), state(run.state), h("span", { class: "quiet" }, `${bundle(run)} · run ${run.run} · round ${run.round} · since ${day(run.started_at)}`));
}
