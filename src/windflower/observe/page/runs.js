// All runs that this gateway knows, and some of them side by side.
import { curves } from "./charts.js";
import { accuracies, latest, losses, others, price, size, total } from "./run.js";
import { card, day, figure, h, link, panel, quiet, show, span, state, table } from "./words.js";

const MOST = 4;

export function open(main, page) {
  const chosen = new Set();
  const list = h("div", {});
  const beside = h("div", { class: "stack" });
  show(main, panel(h("h1", {}, "Runs"), quiet(`Choose two to ${MOST} to see them side by side.`), list), beside);
  let before = "";
  let isOpen = false; // whether a run is under way in what is shown
  const every = setInterval(() => isOpen && compare(), 2000);

  function update(summary) {
    const rows = Object.values(summary.runs).sort((a, b) => b.started_at - a.started_at);
    const now = JSON.stringify([rows, [...chosen]]);
    if (now === before) return;
    before = now;
    const columns = [["Compare"], ["Run"], ["App"], ["State"], ["Began", false, false], ["Rounds", true], ["Ok", true, false], ["Failed", true, false], ["Late", true, false]];
    show(list, rows.length ? table(`${rows.length} runs, the latest first`, columns, rows.map((row) => [
      h("input", { type: "checkbox", id: `compare-${row.run}`, "aria-label": `Compare run ${row.run}`, checked: chosen.has(row.run), disabled: chosen.size === MOST && !chosen.has(row.run), onchange: (event) => choose(row.run, event.target) }),
      link("runs", row.run), row.app || "–", state(row.state), day(row.started_at), row.round, row.ok, row.failed, row.late])) : quiet("No run yet."));
  }

  function choose(run, box) {
    chosen[box.checked ? "add" : "delete"](run);
    update(page.summary);
    compare();
  }

  async function compare() {
    const ids = [...chosen];
    if (ids.length < 2) {
      isOpen = false;
      return show(beside);
    }
    const runs = (await Promise.all(ids.map((id) => page.ask(`runs/${id}`)))).filter(Boolean);
    if (!runs.length || !main.contains(beside) || ids.join() !== [...chosen].join()) return;
    isOpen = runs.some((run) => run.state === "open");
    const lines = (read) => runs.flatMap((run) => read(run).slice(0, 1).map(([, points]) => [run.run, points]));
    const facts = [
      ["State", (run) => state(run.state)], ["Accuracy", (run) => figure(latest(accuracies(run)))], ["Loss", (run) => figure(latest(losses(run)))],
      ["Rounds", (run) => String(run.round)], ["Run time", (run) => span((run.ended_at ?? page.now()) - run.started_at)],
      ["Replies", ({ ok, failed, late }) => `${ok} ok, ${failed} failed, ${late} late`],
      ["Device work", (run) => span(total(run.phases, (p) => p.worked_s))], ["Of it in vain", (run) => span(total(run.phases, (p) => p.wasted_s))],
      ["Bytes", (run) => size(run.phases)], ["On AWS", (run) => price(run.phases)],
    ];
    show(beside, h("div", { class: "two" }, [["Accuracy", accuracies], ["Loss", losses], ["What else was measured", others]].map(([title, read]) => [title, lines(read)]).filter(([, drawn]) => drawn.length).map(([title, drawn]) => curves(title, drawn))),
      card("Side by side", table("Each run in a column", [[""], ...runs.map((run) => [run.run])], facts.map(([name, read]) => [name, ...runs.map(read)]))));
  }

  return { update, close: () => clearInterval(every) };
}
