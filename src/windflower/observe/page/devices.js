// The fleet: a table that the gateway filters and cuts into pages, and a page for each device.
import { timeline } from "./run.js";
import { bundle, card, clock, day, facts, h, link, method, panel, plural, quiet, show, span, state, table } from "./words.js";

const ROWS = 50;
const online = (row) => state(row.online ? "online" : "offline");
const askedLast = (asked, now) => (asked ? [`${method(asked.method)} `, state(asked.outcome ?? "open", asked.outcome ? undefined : asked.stage ?? "sent"), ` ${span((asked.ended_at ?? now) - asked.sent_at)}`] : "nothing yet");
const labels = (row) => Object.entries(row.labels).map(([key, value]) => `${key}=${value}`).join(" ") || "–";

/** The table. */
export function open(main, page) {
  const asked = { search: "", state: "", sort: "", offset: 0 };
  const rows = h("div", {});
  const pager = h("div", { class: "pager" });
  const search = h("input", { type: "search", id: "search", autocomplete: "off", oninput: () => change({ search: search.value.trim() }) });
  const choose = (id, options) => h("select", { id, onchange: (event) => change({ [id]: event.target.value }) }, options.map(([value, word]) => h("option", { value }, word)));
  show(main, panel(h("h1", {}, "Devices"),
    h("form", { class: "filter", role: "search", onsubmit: (event) => event.preventDefault() },
      h("label", {}, "Name holds", search),
      h("label", {}, "State", choose("state", [["", "all"], ["online", "online"], ["offline", "offline"], ["asked", "at work"], ["failed", "failed"]])),
      h("label", {}, "Order", choose("sort", [["", "latest first"], ["device", "by name"]]))),
    rows, pager));
  let timer;
  let latest = 0;

  function change(what) {
    Object.assign(asked, { offset: 0 }, what);
    clearTimeout(timer);
    timer = setTimeout(refresh, 120);
  }

  async function refresh() {
    const mine = (latest += 1);
    const found = await page.ask(`devices?${new URLSearchParams({ ...asked, limit: ROWS })}`);
    if (!found || mine !== latest || !main.contains(rows)) return;
    const caption = found.count ? `${plural(found.count, "device")}; ${found.offset + 1} to ${found.offset + found.devices.length}` : "No device";
    show(rows, table(caption, [["Device"], ["State"], ["Last heard"], ["Asked last"], ["Failed", false, false], ["Labels", false, false], ["Model", false, false]],
      found.devices.map((row) => [link("devices", row.device), online(row), row.heard_at ? `${span(found.now - row.heard_at)} ago` : "never", askedLast(row.latest, found.now), row.failed_at ? clock(row.failed_at) : "–", labels(row), row.model ? h("code", {}, row.model.slice(0, 12)) : "–"])));
    const turn = (id, word, offset, isThere) => h("button", { id, type: "button", disabled: !isThere, onclick: () => { asked.offset = offset; refresh(); } }, word);
    show(pager, turn("before", "Earlier", Math.max(found.offset - ROWS, 0), found.offset > 0), turn("after", "Later", found.offset + ROWS, found.offset + ROWS < found.count));
  }

  refresh();
  const every = setInterval(refresh, 3000);
  return { update: () => {}, close: () => { clearInterval(every); clearTimeout(timer); } };
}

/** One device's page. */
export function openOne(main, page, device) {
  const body = h("div", { class: "two" });
  const below = h("div", {});
  show(main, body, below);

  async function refresh() {
    const found = await page.ask(`devices/${encodeURIComponent(device)}`);
    if (found === undefined || !main.contains(body)) return;
    if (!found) return show(body, panel(h("h1", {}, device), h("p", {}, "No such device was heard here.")));
    const app = found.history.map((row) => page.summary?.runs[row.run]).find(Boolean);
    const known = [["Last heard", found.heard_at ? `${clock(found.heard_at)}, ${span(found.now - found.heard_at)} ago` : "never"], ["Heartbeat every", span(found.interval_s)],
      ["Was away", found.absences.length ? found.absences.map(([from, to]) => `${clock(from)} for ${span(to - from)}`).join("; ") : "not lately"],
      ["Labels", labels(found)], ["Agent", found.agent ?? "–"], ["Published model", found.model ?? "none"], ["Last app", app ? `${app.app} ${bundle(app)}` : "–"]];
    const error = found.error ? [quiet(`${day(found.error.at)}, run ${found.error.run}`), h("pre", { tabindex: "0" }, found.error.reason)] : quiet("None is known.");
    show(body,
      panel(h("div", { class: "top" }, h("h1", {}, found.device), online(found)), facts("facts", known)),
      card("Last error", error));
    show(below, card("What it did lately", history(found)));
  }

  function history(found) {
    const columns = [["When"], ["Run", false, false], ["Asked for"], ["Outcome"], ["Took", true], ["Of it work", true], ["Sent", true, false]];
    const rows = found.history.map((row) => [clock(row.sent_at), page.summary?.runs[row.run] ? link("runs", row.run) : row.run, method(row.method), row.outcome ? state(row.outcome) : state("open", "open"),
      span((row.ended_at ?? found.now) - row.sent_at), row.worked_s === null ? "–" : span(row.worked_s), plural(row.sendings, "time")]);
    const latest = found.history[0];
    const drawn = latest ? timeline({ opened_at: latest.sent_at, closed_at: latest.ended_at }, { exchanges: [latest], now: found.now, count: 1, why: "" }) : [];
    return rows.length ? [quiet("The latest:"), drawn, table(`The latest ${rows.length}`, columns, rows)] : quiet("Nothing that is still known here.");
  }

  refresh();
  const every = setInterval(refresh, 2000);
  return { update: () => {}, close: () => clearInterval(every) };
}
