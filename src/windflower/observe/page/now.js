// A run while it is under way: the latest, or one that is chosen.
import { answers, called, charts, costs, heading, six, timeline, unfit } from "./run.js";
import { card, clock, figure, h, panel, plural, quiet, show, span } from "./words.js";

const LANES = 40;
const POINTS = 2000;

/** Why the phase is open, for whom, and until when at most. */
export function why(run, now) {
  const phase = run.phase;
  if (run.state === "suspended") return `Suspended: ${run.reason}. It goes on with: windflower run --resume ${run.run}`;
  if (run.state !== "open") return `${run.state === "done" ? "Done" : "Failed"}${run.reason ? `: ${run.reason}` : ""}`;
  if (phase === undefined) return "It is under way beside another run.";
  if (!phase) return run.pushed.waiting ? `No phase is open. At work: ${waited(run.pushed, now)}.` : "Between two phases: the app itself is at work.";
  const answered = phase.ok + phase.failed;
  const said = [`Now ${called(phase)}: ${figure(answered)} of ${plural(phase.devices, "device")} answered in ${span(now - phase.opened_at)}.`];
  if (phase.waiting_for.length) said.push(`Waits for ${waited(phase, now)}.`);
  return [...said, `${ending(phase, now)}.`].join(" ");
}

function waited(phase, now) {
  const named = phase.waiting_for.slice(0, 3).map(({ device, online, heard_at: heardAt, stage }) =>
    online ? (stage && stage !== "answered" ? `${device} (${stage})` : device) : `${device} (${heardAt ? `not heard since ${clock(heardAt)}, for ${span(now - heardAt)}` : "never heard"})`);
  const more = phase.waiting - named.length;
  return more > 0 ? `${named.join(", ")} and ${plural(more, "other")}` : named.join(", ");
}

function ending(phase, now) {
  const enough = phase.quorum ? `when ${phase.quorum} have answered well` : "when all have answered";
  const left = phase.deadline_at - now;
  const latest = phase.deadline_at ? (left > 0 ? `, at ${clock(phase.deadline_at)} (in ${span(left)}) at the latest` : ", now that its time is over") : "";
  const lost = phase.offline ? (phase.waits_for_offline ? ", with or without whoever is offline" : ", without whoever is offline") : "";
  const least = phase.minimum > phase.ok ? `. With fewer than ${phase.minimum} good answers the run is suspended` : "";
  return `It goes on ${enough}${latest}${latest ? lost : ""}${latest && least}`;
}

/** The run's bar: who has answered, and how. */
function bar(phase) {
  const element = h("div", { class: "bar", role: "img", "aria-label": `${phase.ok} ok, ${phase.failed} failed, ${phase.late} late of ${phase.devices}` });
  for (const kind of ["ok", "failed", "late"]) {
    const part = h("span", { class: kind });
    part.style.width = `${(100 * phase[kind]) / Math.max(phase.devices, 1)}%`;
    element.append(part);
  }
  return element;
}

const BAD = new Set(["device-lost", "reply-failed", "broker-lost", "run-suspended", "hook-failed", "sink-failed"]);
const WORRY = new Set(["reply-missing", "reply-late", "device-unfit", "updates-dropped"]);

function news(items) {
  const kind = ({ event }) => (BAD.has(event) ? "bad" : WORRY.has(event) ? "worry" : undefined);
  return card("What happened",
    items.length ? h("ol", { class: "news", reversed: true }, [...items].reverse().slice(0, 12).map((item) => h("li", { class: kind(item) }, h("time", {}, clock(item.at)), h("span", {}, item.text)))) : quiet("Nothing yet."));
}

/** Call `paint` again only where what it draws has changed. */
function once(paint) {
  let before;
  return (...input) => {
    const now = JSON.stringify(input);
    if (now !== before) paint(...input);
    before = now;
  };
}

/** The view; `chosen` is a run's id, or nothing for the latest. */
export function open(main, page, chosen) {
  const parts = Object.fromEntries(["head", "numbers", "charts", "answers", "news", "lanes", "costs", "unfit"].map((name) => [name, h("div", { id: name })]));
  const select = h("select", { id: "phase", onchange: () => follow() });
  const body = h("div", {});
  const said = h("p", { class: "skip", role: "status" });
  const why_ = h("p", { class: "why" }); // it changes each second: what is new is told by the news below
  parts.lanes.append(panel(h("div", { class: "top" }, h("h2", {}, "Who did what, and when"), h("label", { class: "inline" }, "Phase", select)), body));
  parts.charts.className = "two";
  show(main, parts.head, parts.numbers, parts.charts, h("div", { class: "two" }, parts.answers, parts.news), parts.lanes, parts.unfit, parts.costs, said);
  let run = null;
  let asked = "";
  let busy = false;
  let stale = "";

  const paint = {
    head: once((row, phase) => show(parts.head, h("section", { class: `card now ${row.state === "failed" ? "failed" : phase?.offline || row.state === "suspended" ? "waits" : ""}` }, heading(row), why_, phase ? bar(phase) : null))),
    charts: once(() => show(parts.charts, charts(run))),
    answers: once(() => show(parts.answers, answers(run))),
    costs: once(() => show(parts.costs, costs(run))),
    unfit: once(() => show(parts.unfit, unfit(run))),
    news: once((items) => {
      show(parts.news, news(items));
      said.textContent = items.at(-1)?.text ?? "";
    }),
    choices: once((numbers) => {
      const kept = select.value;
      const phase = (number) => run.phases.find((one) => one.number === number);
      select.replaceChildren(h("option", { value: "" }, "the latest"), ...[...numbers].reverse().filter((n) => n && phase(n)).map((n) => h("option", { value: n }, `${n}: ${called(phase(n))}`)));
      select.value = numbers.includes(Number(kept)) ? kept : "";
    }),
  };

  async function follow() {
    const phase = select.value ? run?.phases.find((one) => one.number === Number(select.value)) : run?.phases.at(-1);
    if (!phase) return show(body, quiet("No phase yet."));
    const told = await page.ask(`runs/${run.run}/phases/${phase.number}?limit=${LANES}`);
    if (told !== undefined && main.contains(body)) show(body, told ? timeline(phase, told) : quiet("That is not kept any more: see windflower report."));
  }

  /** Ask for what is new of the run; at most once a second, and late replies may change a few phases before the last. */
  async function refresh(id) {
    if (busy) return;
    busy = true;
    stale = "";
    const known = run?.run === id ? run : { phases: [], measured: [] };
    const from = Math.max((known.phases.at(-1)?.number ?? 0) - 4, 0);
    const found = await page.ask(`runs/${encodeURIComponent(id)}?phases_from=${from}&measured_after=${known.measured.at(-1)?.at ?? 0}`);
    setTimeout(() => { busy = false; }, 1000);
    if (!found || !main.contains(parts.head)) return void (stale = id);
    run = { ...found, phases: [...known.phases.filter((phase) => phase.number < from), ...found.phases].slice(-POINTS), measured: [...known.measured, ...found.measured].slice(-POINTS) };
    paint.charts(run.measured.at(-1), run.run);
    paint.answers(run.phases.map((p) => [p.number, p.ok, p.failed, p.late]), run.run);
    paint.costs(run.phases.map((p) => [p.number, p.closed_at, p.wasted_s]), run.run);
    paint.unfit(run.unfit);
    paint.choices(run.timelines);
    show(parts.numbers, six(run, page.now()));
    await follow();
  }

  function update(summary) {
    const head = chosen && summary.run?.run !== chosen ? summary.runs[chosen] : summary.run;
    paint.news(summary.news);
    if (!head) {
      const text = chosen ? "No such run is known here." : "No run yet: windflower run APP_DIR starts one.";
      return show(parts.head, panel(h("h1", {}, "windflower"), h("p", { class: "why" }, text)));
    }
    const phase = head.phase ?? null;
    paint.head({ ...summary.runs[head.run] }, phase && { ok: phase.ok, failed: phase.failed, late: phase.late, devices: phase.devices, offline: phase.offline });
    tick(head);
    const seen = JSON.stringify([head.run, head.round, head.ok, head.failed, head.late, head.state, phase?.number, phase?.offline]);
    if (seen !== asked) {
      asked = seen;
      stale = head.run;
      refresh(head.run);
    }
  }

  function tick(head = chosen ? page.summary?.runs[chosen] : page.summary?.run) {
    const latest = page.summary?.run;
    if (!head) return;
    const as = page.lostAt ? `As of ${clock(page.lostAt)}: ` : "";
    const text = as + why(latest?.run === head.run ? latest : head, page.now());
    if (why_.textContent !== text) why_.textContent = text;
    if (run?.run === head.run && head.state === "open") {
      show(parts.numbers, six(run, page.now()));
    }
  }

  let turns = 0;
  const timer = setInterval(() => {
    tick();
    turns += 1;
    if (stale || (run?.phases.at(-1)?.closed_at === null && turns % 2 === 0)) refresh(stale || run.run);
  }, 1000);
  return { update, close: () => clearInterval(timer) };
}
