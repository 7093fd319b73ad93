// Follows the gateway, and shows the view that the address names.
import { open as openDevices, openOne } from "./devices.js";
import { open as openRun } from "./now.js";
import { open as openRuns } from "./runs.js";
import { clock, figure, h, plural, show } from "./words.js";

const [main, link, fleet, where] = ["main", "link", "fleet", "broker"].map((id) => document.getElementById(id));
const ROUTES = [
  [/^#\/devices\/(.+)$/, "devices", openOne],
  [/^#\/devices$/, "devices", openDevices],
  [/^#\/runs\/(.+)$/, "runs", openRun],
  [/^#\/runs$/, "runs", openRuns],
  [/^/, "now", openRun],
];

const page = {
  summary: null,
  ahead: 0,
  lostAt: 0,
  /** The gateway's clock, which need not be the watcher's; it stands still while nobody answers. */
  now: () => (page.lostAt || Date.now() / 1000) - page.ahead,
  /** Ask the gateway; null where it does not know, undefined where it does not answer. */
  async ask(path) {
    try {
      const answer = await fetch(`api/v1/${path}`);
      return answer.ok ? await answer.json() : null;
    } catch {
      return undefined;
    }
  },
};

let view = null;

function route() {
  view?.close();
  const [pattern, name, open] = ROUTES.find(([one]) => one.test(location.hash));
  for (const a of document.querySelectorAll("nav a")) {
    a.ariaCurrent = a.dataset.view === name ? "page" : null;
  }
  const [, chosen] = location.hash.match(pattern) ?? [];
  view = open(main, page, chosen && decoded(chosen));
  if (page.summary) view.update(page.summary);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody wrote the address by hand
  }
}

/** Take what changed since the last message; the first one holds everything. */
function take(changes) {
  page.ahead = Date.now() / 1000 - changes.now;
  page.summary = { ...page.summary, ...changes, runs: { ...page.summary?.runs, ...changes.runs } };
  for (const run of changes.gone ?? []) delete page.summary.runs[run];
  const { devices, broker, run } = page.summary;
  const offline = devices.offline ? `, ${figure(devices.offline)} offline` : "";
  fleet.textContent = broker.problem ? "the broker is lost" : `${plural(devices.online, "device")} online${offline}`;
  show(where, broker.problem ? h("span", { class: "state failed" }, `broker ${broker.address} is lost: ${broker.problem}`) : `broker ${broker.address}`);
  document.title = run ? `${run.state === "open" ? `round ${run.round}` : run.state} · ${run.app} · windflower` : "windflower";
  view?.update(page.summary);
}

function follow() {
  const stream = new EventSource("api/v1/stream");
  stream.onopen = () => {
    page.lostAt = 0;
    link.className = "";
    link.textContent = "live";
  };
  stream.onmessage = ({ data }) => take(JSON.parse(data));
  stream.onerror = () => {
    page.lostAt ||= Date.now() / 1000;
    link.className = "bad";
    link.textContent = `no answer since ${clock(page.lostAt)}: trying again`;
    if (stream.readyState === EventSource.CLOSED) {
      stream.close();
      setTimeout(follow, 2000);
    }
  };
}

addEventListener("hashchange", () => {
  if (location.hash !== "#main") route(); // that is where "To the content" leads
  main.focus({ preventScroll: true });
});
route();
follow();
