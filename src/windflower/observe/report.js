// The report: the parts of the page, once, from data that stands in the file.
import { answers, called, charts, costs, heading, six, timeline, unfit } from "./page/run.js";
import { card, clock, facts, h, panel, plural, quiet, state, table } from "./page/words.js";

function trouble({ trouble: { count, devices } }) {
  const cells = devices.map(({ device, times, outcome, reason }) => [device, times, state(outcome), h("pre", {}, reason)]);
  return card("Who did not answer well, and why", cells.length ? table(plural(count, "device") + (count > cells.length ? `, the worst ${cells.length}` : ""), [["Device"], ["Times", true], ["Last"], ["Why"]], cells) : quiet("Everybody answered well."));
}

const report = JSON.parse(document.getElementById("report").textContent);
const { run, head } = report;
const lanes = run.phases.filter((phase) => report.timelines[phase.number]).reverse().map((phase) =>
  h("details", {}, h("summary", {}, `${called(phase)}: ${phase.ok} ok, ${phase.failed} failed, ${phase.late} late${report.timelines[phase.number].why ? `. ${report.timelines[phase.number].why}` : ""}`), timeline(phase, report.timelines[phase.number])));
lanes[0]?.setAttribute("open", "");
document.getElementById("main").append(
  panel(heading(run), facts("facts", Object.entries(head).map(([name, value]) => [name, String(value)]))), six(run, report.now),
  h("div", { class: "two" }, charts(run), answers(run)), trouble(report), ...[unfit(run)].filter(Boolean), costs(run),
  card("Who did what, and when", lanes),
  card("What happened", h("ol", { class: "news" }, report.news.map((item) => h("li", {}, h("time", {}, clock(item.at)), h("span", {}, item.text))))));
