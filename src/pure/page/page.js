// The status page. Asks "json" each second and changes in the document what has changed, so that nothing
// flickers, and focus, selection and scrolling stay. parts.js is loaded before it.
"use strict";

// ---- What nginx says, made ready to show ----

const empty = (end) => ({
  end, ...Object.fromEntries(SERIES.map((name) => [name, Array(SECONDS).fill(QUANTILES.includes(name) ? null : 0)])),
});
const kept = new Map(); // by the server's key: the ten minutes before "end"
function remember(key, history, end) {
  let past = kept.get(key) ?? empty(end);
  if (past.end > end) past = empty(end); // the clock was set back
  const gone = Math.min(SECONDS, end - past.end);
  for (const name of SERIES) {
    const values = past[name];
    if (gone > 0) values.push(...Array(gone).fill(QUANTILES.includes(name) ? null : 0));
    if (gone > 0) values.splice(0, gone);
    const first = SECONDS - 1 - (end - (history.end - history.requests.length + 1));
    history[name].forEach((value, at) => { if (values[first + at] !== undefined) values[first + at] = value; });
  }
  past.end = end;
  kept.set(key, past);
  return past;
}
// Several servers as one: sums, and of times the longest.
function together(pasts, end) {
  const all = empty(end);
  for (const past of pasts) {
    for (const name of SERIES) {
      past[name].forEach((value, at) => {
        if (value == null) return;
        all[name][at] = QUANTILES.includes(name) ? Math.max(all[name][at] ?? 0, value) : all[name][at] + value;
      });
    }
  }
  return all;
}
// Of the last ten seconds that had responses, within a minute, the one in the middle.
function typical(values) {
  const last = values.slice(-60).filter((value) => value != null).slice(-10).sort((a, b) => a - b);
  return last.length ? last[Math.floor((last.length - 1) / 2)] : null;
}
const recent = (values) => sum(values.slice(-5), (value) => value) / 5;

function viewOf(kind, key, name, sub, past, peers) {
  const worst = ["unhealthy", "unavail", "checking", "draining", "down", "up"]
    .find((state) => peers.some((peer) => peer.state === state)) ?? "up";
  const up = peers.filter((peer) => peer.state === "up").length;
  const [word, tone] = STATES[worst];
  const limits = peers.map((peer) => peer.connections.limit);
  return {
    kind, key, name, sub, past, peers,
    state: kind !== "group" || up === peers.length ? word : `${up} of ${peers.length} up`,
    tone: kind === "group" && tone === "error" && up ? "warning" : tone,
    rate: recent(past.requests),
    active: sum(peers, (peer) => peer.active),
    limit: limits.includes(null) || !limits.length ? null : sum(limits, (limit) => limit),
    waiting: sum(peers, (peer) => peer.queue.size),
    errors: sum(past.errors, (value) => value),
    p50: typical(past.p50), p95: typical(past.p95), p99: typical(past.p99),
  };
}
// A group for each upstream: its own view first, unless it has one server only.
function groupsOf(json, end) {
  return Object.entries(json.upstreams).map(([name, upstream]) => {
    const servers = upstream.peers.map((peer) => {
      const key = JSON.stringify([name, peer.id, peer.server]), past = remember(key, peer.history, end);
      if (upstream.peers.length === 1) {
        // of an address that stands in rs_uwsgi_pass itself, nginx's name of the upstream lacks "unix:"
        const isOne = [name, `unix:${name}`].includes(peer.server);
        return viewOf("single", key, isOne ? peer.server : name, isOne ? "" : peer.server, past, [peer]);
      }
      const also = [peer.name === peer.server ? "" : peer.name, peer.backup ? "backup" : ""].filter(Boolean).join(", ");
      return viewOf("server", key, peer.server, also, past, [peer]);
    });
    if (servers.length === 1) return { upstream, name, head: servers[0], servers: [] };
    const past = together(servers.map((view) => view.past), end);
    const head = viewOf("group", JSON.stringify([name]), name, many(servers.length, "server"), past, upstream.peers);
    return { upstream, name, head, servers };
  });
}

// ---- The table ----

const COLUMNS = [ // key, title, text of a view, what is sorted by
  ["name", "Server"], ["state", "State"],
  ["rate", "Requests/s", (view) => rate(view.rate)],
  ["active", "In flight", (view) => `${number(view.active)}${view.limit == null ? "" : ` of ${number(view.limit)}`}`],
  ["waiting", "Waiting", (view) => number(view.waiting)],
  ["errors", "Errors, 10 min", (view) => number(view.errors)],
  ["p50", "p50", (view) => time(view.p50)], ["p95", "p95", (view) => time(view.p95)], ["p99", "p99", (view) => time(view.p99)],
  ["plot", "Last ten minutes"],
];
const TITLES = {
  rate: "the mean of the last five seconds", active: "requests that a server works on, of how many it may have",
  waiting: "requests that wait for a connection", errors: "failures and responses of 5xx",
  p50: "half of the responses took no longer: a typical one of the last ten seconds that had any",
  p95: "95 of 100 responses took no longer: a typical one of the last ten seconds that had any",
  p99: "99 of 100 responses took no longer: a typical one of the last ten seconds that had any",
};
const sort = { by: "", down: false };
const open = new Set(); // keys of views
const table = byId("servers"), places = new Map(); // where each view was at last

function order(views) {
  const known = (view) => places.get(view.key) ?? Infinity;
  const compare = (a, b) => {
    const [x, y] = [a[sort.by], b[sort.by]];
    if (typeof x === "string") return x.localeCompare(y, "en", { numeric: true });
    return (x ?? -1) - (y ?? -1);
  };
  // A row that is pointed at must not run away.
  if (!sort.changed && table.querySelector("tbody:hover")) return views.slice().sort((a, b) => known(a) - known(b) || 0);
  return sort.by ? views.slice().sort((a, b) => (sort.down ? compare(b, a) : compare(a, b))) : views;
}
function sortBy(key, down) {
  Object.assign(sort, { by: key, down, changed: true });
  byId("sort").value = key;
  render();
}
function makeRow(view) {
  const id = `row${makeRow.count = (makeRow.count ?? 0) + 1}`;
  const button = make("button", { type: "button", "aria-expanded": "false", "aria-controls": id }, make("span", { class: "name" }));
  const cells = COLUMNS.map(([key, title], at) => (at
    ? make("td", { role: "cell", class: key === "plot" ? "wide" : key, "data-label": title })
    : make("th", { role: "rowheader", scope: "row" }, button, make("span", { class: "sub" }))));
  cells[1].append(make("span"));
  cells[3].append(make("span"), make("span", { class: "bar" }, make("i")));
  cells[9].append(make("svg", { class: "spark", viewBox: "0 0 120 100", preserveAspectRatio: "none", "aria-hidden": "true" },
    make("path", { class: "area line0" }), make("path", { class: "line-errors" })));
  const inside = make("td", { role: "cell", colspan: String(COLUMNS.length) });
  const detail = make("tr", { role: "row", class: "detail", id, hidden: "" }, inside);
  const body = make("tbody", { role: "rowgroup" }, make("tr", { role: "row", class: "main" }, ...cells), detail);
  button.addEventListener("click", () => toggle(view.key));
  return Object.assign(body, { cells, detail, inside, button });
}
function toggle(key) {
  if (!open.delete(key)) open.add(key);
  render();
}
function updateRow(body, view) {
  const { cells, detail, button } = body, isOpen = open.has(view.key);
  set(body, "class", `${view.kind} ${view.tone}`);
  setText(button.firstChild, view.name);
  setText(cells[0].lastChild, view.sub);
  hide(cells[0].lastChild, !view.sub);
  setText(cells[1].firstChild, view.state);
  COLUMNS.forEach(([, , text], at) => { if (text) setText(at === 3 ? cells[3].firstChild : cells[at], text(view)); });
  const isFull = view.limit != null && view.active >= view.limit;
  hide(cells[3].lastChild, !view.limit);
  set(cells[3].lastChild, "class", isFull ? "bar full" : "bar");
  const width = view.limit ? `${Math.min(100, Math.round((100 * view.active) / view.limit))}%` : "", { style } = cells[3].lastChild.firstChild;
  if (style.width !== width) style.width = width;
  cells[4].classList.toggle("hot", view.waiting > 0);
  cells[5].classList.toggle("wrong", view.errors > 0);
  const [requests, errors] = ["requests", "errors"].map((name) => fives(view.past[name], view.past.end));
  const top = Math.max(1, ...requests);
  set(cells[9].firstChild.firstChild, "d", areaOf(lineOf(requests, top)));
  set(cells[9].firstChild.lastChild, "d", lineOf(errors.map((value) => value || null), Math.max(top, ...errors)));
  set(button, "aria-expanded", String(isOpen));
  hide(detail, !isOpen);
  if (isOpen) updateDetail(body, view);
}
// The most of each five seconds. They begin where the clock has a multiple of five, so that a point stays as it is.
function fives(values, end) {
  const all = Array(120).fill(0), newest = Math.floor(end / 5);
  values.forEach((value, at) => {
    const place = 119 - (newest - Math.floor((end - SECONDS + 1 + at) / 5));
    if (place >= 0) all[place] = Math.max(all[place], value);
  });
  return all;
}

// ---- All that is counted of a server, or of an upstream ----

function updateDetail(body, view) {
  const parts = (body.parts ??= makeDetail(body, view));
  parts.plots.forEach((plot) => plot.update(view.past));
  patch(parts.advice, view.peers.flatMap((peer) => peer.advice).map((text) => ({ key: text })),
    ({ key }) => make("li", {}, key), () => {});
  hide(parts.advice, !parts.advice.childElementCount);
  const sections = view.kind === "group" ? [] : sectionsOf(view.peers[0]);
  if (view.kind !== "server") sections.push(...sectionsOfUpstream(view.upstream));
  patch(parts.facts, sections.map(([key, list]) => ({ key, list })),
    ({ key }) => make("section", {}, make("h3", {}, key), make("dl")),
    (node, { list }) => facts(node.lastChild, list));
}
function makeDetail(body, view) {
  const plots = plotsOf(view.kind === "group" ? ", the slowest server" : "");
  plots.push(new Plot("Time in the queue", [["queue_p95", "p95"]], time));
  const parts = { plots, advice: make("ul", { class: "advice" }), facts: make("div", { class: "facts" }) };
  body.inside.append(parts.advice, make("div", { class: "plots" }, ...plots.map((plot) => plot.node)), parts.facts);
  return parts;
}
const named = (counts, words) => {
  const list = Object.entries(counts).filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1])
    .map(([reason, count]) => { const [what, hint] = [words[reason] ?? reason].flat(); return [what, number(count), hint]; });
  return list.length ? list : [["none", "0"]];
};
function sectionsOf(peer) {
  const { queue, connections, responses, times } = peer, taken = connections.opened + connections.reused;
  const quantiles = (of, show) => of.count === 0 ? "–" : `${show(of.p50)} · ${show(of.p95)} · ${show(of.p99)}`;
  const took = (of) => (of.count === 0 ? "" : `mean ${time(of.sum / of.count)} of ${number(of.count)}`);
  const codes = Object.entries(responses.codes).map(([code, count]) => [`… of these ${code}`, number(count)]);
  const sections = [
    ["Waiting for a connection", [
      ["wait now", `${number(queue.size)} of ${number(queue.max_size)}`], ["the first has waited", queue.size ? time(queue.oldest) : "–"],
      ["the most that ever waited", number(queue.most)], ["got a connection", number(queue.served)],
      ["waited in vain until their time was up", number(queue.timeouts)], ["refused: the queue was full", number(queue.overflows)],
      ["refused: the wait would have been in vain", number(queue.expected)], ["their client left", number(queue.client_gone)],
      ["their server was gone, or another had room", number(queue.failed)],
      ["found the server's listen queue full", number(peer.listen_queue_full)],
    ]],
    ["Requests", [
      ["sent to it", number(peer.requests)], ["last tried", peer.selected == null ? "never" : clock(peer.selected)],
      ["came here after another server", number(peer.next_tries)],
      ["sent again", number(peer.repeated), peer.repeated ? "An idle connection was dead, or the server restarted." : ""],
      ["answered before all was sent", number(peer.early_answers)], ["their client left while they were served", number(peer.client_gone)],
      ["their client left before an answer", number(peer.worked_in_vain), peer.worked_in_vain ? "The server worked in vain." : ""],
      ["refused with 431", number(peer.vars_refused), peer.vars_refused ? "Their vars are more than the server takes: see its buffer-size and rs_uwsgi_max_vars." : ""],
      ["sent", size(peer.sent)], ["received", size(peer.received)], ["vars, p50 · p95 · p99", quantiles(peer.vars_size, size)],
    ]],
    ["Times since the start, p50 · p95 · p99", [["queue", "queue"], ["connect", "to connect"], ["header", "to the head"],
      ["response", "to the end"]].map(([name, what]) => [what, quantiles(times[name], time), took(times[name])])],
    ["Responses", [...["2xx", "3xx", "4xx", "5xx"].map((name) => [name, number(responses[name])]), ...codes,
      ["1xx, read and dropped or passed on", number(peer.interim)]]],
    ["Connections", [
      ["in use", number(connections.in_use)], ["idle", number(connections.idle)],
      ["limit", connections.limit == null ? "none" : `${number(connections.limit)}, ${connections.limit_by}`],
      ["opened", number(connections.opened)],
      ["reused", `${number(connections.reused)}${taken ? ` (${Math.floor((100 * connections.reused) / taken)} %)` : ""}`],
    ]],
    ["Connections closed, because", named(connections.closed, CLOSED)],
    ["Failures", named(peer.failures, FAILURES)],
  ];
  if (peer.health_checks.checks) {
    const { checks, fails, unhealthy } = peer.health_checks;
    sections.push(["Health checks", [["made", number(checks)], ["failed", number(fails)], ["times it became unhealthy", number(unhealthy)]]]);
  }
  return sections;
}
function sectionsOfUpstream({ queue, keepalive, cache, peers, uwsgi }) {
  const sections = [];
  if (peers.length !== 1) {
    sections.push(["The upstream", [["requests that wait", `${number(queue.size)} of ${number(queue.max_size)}`],
      ["refused: the queue was full", number(queue.overflows)], ["idle connections", number(keepalive)]]]);
  }
  if (uwsgi) sections.push(["What uWSGI says", uwsgiFacts(uwsgi)]);
  if (sum(Object.values(cache), (count) => count)) {
    sections.push(["Cache", Object.entries(cache).map(([name, count]) => [name, number(count)])]);
  }
  return sections;
}

// Of its own stats server (rs_uwsgi_stats).
function uwsgiFacts({ address, age, error, stats }) {
  const first = ["asked at", address, error ?? ""];
  if (!stats) return [first, ["its answer", error ? "none" : "awaited"]];
  const { workers, busy, idle, cheaped, cores } = stats;
  return [
    first, ["its answer", `${time(age)} ago`], ["version", stats.version],
    ["workers", number(workers)], ["busy · idle · cheaped", [busy, idle, cheaped].map(number).join(" · ")],
    ["threads that serve a request", `${number(stats.cores_busy)} of ${number(cores)}`],
    ["requests", number(stats.requests)], ["average time", time(stats.average)], ["sent", size(stats.sent)],
    ["exceptions", number(stats.exceptions)], ["ended by harakiri", number(stats.harakiris)], ["workers started again", number(stats.respawns)],
    ["resident memory", stats.rss ? size(stats.rss) : "–", stats.rss ? "" : "uWSGI counts it with memory-report."],
    ["in its listen queue", `${number(stats.listen_queue)} of ${number(stats.listen_queue_most)}`, "uWSGI sees 0 for a unix socket, whatever is in it."],
    ["listen queue found full", number(stats.listen_queue_errors)],
  ];
}

// ---- The page as a whole ----

// The document may have been asked for with or without the slash at its end.
const base = location.pathname.replace(/\/*$/, "/");
let json = null, failure = null, groups = [], answered = 0, paused = false, timer = 0;
const totals = plotsOf(", the slowest server");

function render() {
  if (!json) return;
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean), only = byId("troubled").checked;
  const troubled = (group, view) => view.tone === "error" || view.tone === "warning" || json.problems.some(({ upstream, server }) =>
    upstream === group.name && (server === null || view.kind === "group" || view.peers.some((peer) => [peer.server, peer.name].includes(server))));
  const suits = (group, view) => (!only || troubled(group, view))
    && words.every((word) => `${group.name} ${view.name} ${view.sub} ${view.state}`.toLowerCase().includes(word));
  const views = [];
  for (const head of order(groups.map((group) => Object.assign(group.head, { group })))) {
    const { group } = head, servers = group.servers.filter((view) => suits(group, view));
    if (servers.length || suits(group, head)) views.push(head, ...order(servers));
    for (const view of [head, ...servers]) view.upstream = group.upstream;
  }
  sort.changed = false;
  places.clear();
  views.forEach((view, at) => places.set(view.key, at));
  patch(table, views, makeRow, updateRow, table.tHead);
  for (const [at, [key]] of COLUMNS.entries()) {
    const cell = table.tHead.rows[0].cells[at];
    if (key === sort.by) set(cell, "aria-sort", sort.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  const all = sum(groups, (group) => group.upstream.peers.length), shown = views.filter((view) => view.kind !== "group").length;
  setText(byId("shown"), shown === all ? "" : `${number(shown)} of ${many(all, "server")}`);
  const why = all ? "No server has these words, or this state." : "No location passes requests to a uwsgi server.";
  setText(byId("nothing"), why);
  hide(byId("nothing"), views.length > 0);
}

function reveal({ upstream, server }) {
  const group = groups.find((one) => one.name === upstream);
  if (!group) return;
  const view = group.servers.find(({ peers: [peer] }) => [peer.server, peer.name].includes(server)) ?? group.head;
  open.add(view.key);
  byId("filter").value = "";
  render();
  const row = table.known.get(view.key);
  row?.button.focus();
  row?.scrollIntoView({ block: "center" });
}
function makeProblem(problem) {
  const name = make("button", { type: "button", class: "name" });
  const item = Object.assign(make("li", {}, make("span", { class: "kind" }), " ", name, make("span")), { name, problem });
  name.addEventListener("click", () => reveal(item.problem));
  return item;
}
function updateProblem(item, problem) {
  item.problem = problem;
  set(item, "class", problem.severity);
  setText(item.firstChild, problem.severity === "error" ? "Error" : "Warning");
  const where = [...new Set([problem.upstream, problem.server])].filter((name) => name != null).join(", ");
  setText(item.name, where);
  hide(item.name, !where);
  setText(item.lastChild, `${where ? ": " : ""}${problem.text}`);
}
function updateTop(past) {
  const { problems } = json, errors = problems.filter(({ severity }) => severity === "error").length;
  const servers = groups.flatMap(({ upstream }) => upstream.peers);
  const count = [errors && many(errors, "error"), problems.length - errors && many(problems.length - errors, "warning")];
  setText(byId("verdict"), problems.length ? count.filter(Boolean).join(", ") : "All is well");
  set(byId("health"), "class", `banner ${errors ? "error" : problems.length ? "warning" : "good"}`);
  const waiting = sum(servers, (peer) => peer.queue.size);
  setText(byId("summary"), `${many(servers.length, "server")}, ${rate(recent(past.requests))} requests a second, `
    + `${number(sum(servers, (peer) => peer.active))} in flight, ${waiting ? `${number(waiting)} waiting` : "nobody waits"}`
    + `${json.zone ? "." : ". With rs_uwsgi_zone off nothing is counted: this is what is configured."}`);
  const occurred = new Map();
  patch(byId("problems"), problems.map((problem) => {
    const key = JSON.stringify([problem.severity, problem.upstream, problem.server]), before = occurred.get(key) ?? 0;
    occurred.set(key, before + 1);
    return { ...problem, key: key + before };
  }), makeProblem, updateProblem);
  totals.forEach((plot) => plot.update(past));
  document.title = `${problems.length ? `(${problems.length}) ` : ""}rs_uwsgi on ${location.host}`;
  setText(byId("build"), `${json.version} in nginx ${json.nginx}, counting for ${span(json.uptime)}`);
  setText(byId("about"), `Module ${json.version} (${json.commit}), ${many(json.workers.length, "worker")} `
    + `(${json.workers.map(({ pid }) => pid).join(", ")}), configuration ${number(json.generation)} in this zone. `
    + (json.zone ? `Zone: ${size(json.zone.size)}, ${number(json.zone.used)} of ${many(json.zone.servers, "server")}`
      + `${json.zone.full ? `, full for ${many(json.zone.full, "request")}: raise rs_uwsgi_zone` : ""}.` : ""));
}
const ZONE_COLUMNS = ["Requests", "2xx", "3xx", "4xx", "5xx", "Client left", "Received", "Sent"];
function updateZones() {
  const zones = Object.entries(json.location_zones), [body] = byId("zones").querySelectorAll("tbody");
  hide(byId("zones"), !zones.length);
  patch(body, zones.map(([key, zone]) => ({ key, zone })),
    ({ key }) => make("tr", { role: "row", class: "main" }, make("th", { role: "rowheader", scope: "row", class: "name" }, key),
      ...ZONE_COLUMNS.map((title) => make("td", { role: "cell", "data-label": title }))),
    (row, { zone: { requests, responses, discarded, received, sent } }) =>
      [number(requests), ...["2xx", "3xx", "4xx", "5xx"].map((name) => number(responses[name])), number(discarded), size(received), size(sent)]
        .forEach((text, at) => setText(row.cells[at + 1], text)));
}
function updateFresh() {
  const late = failure ?? (!paused && answered && Date.now() - answered > 5000 ? "no answer" : null);
  byId("fresh").classList.toggle("late", late !== null);
  setText(byId("fresh"), `${late ? `${late}; ` : ""}${paused ? "paused; " : ""}${answered ? `as of ${clock(answered / 1000)}` : ""}`);
}

// The whole history at first; then the seconds since the last answer, and some that may have come late.
async function ask() {
  const since = answered ? Math.ceil((Date.now() - answered) / 1000) + 3 : SECONDS;
  try {
    const answer = await fetch(`${base}json?history=${Math.min(since, SECONDS)}`, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(`nginx answers ${answer.status}`);
    json = await answer.json();
    [failure, answered] = [null, Date.now()];
    const end = Math.floor(json.time) - 1;
    groups = groupsOf(json, end);
    updateTop(together(groups.map((group) => group.head.past), end));
    updateZones();
    render();
  } catch (error) {
    failure = error.name === "TimeoutError" ? "no answer within 10 s" : error instanceof SyntaxError ? "the answer is not JSON" : error.message;
  }
  updateFresh();
}
async function run() {
  clearTimeout(timer);
  const began = Date.now();
  if (!paused && !document.hidden) await ask();
  clearTimeout(timer);
  timer = setTimeout(run, Math.max(100, 1000 - (Date.now() - began)));
}

for (const link of document.querySelectorAll("a[href]")) link.setAttribute("href", base + link.getAttribute("href"));
setText(byId("host"), `on ${location.host}`);
byId("totals").append(...totals.map((plot) => plot.node));
byId("sort").append(make("option", { value: "" }, "as configured"));
byId("zones").querySelector("tr").append(...["Name", ...ZONE_COLUMNS]
  .map((title) => make("th", { role: "columnheader", scope: "col" }, title)));
for (const [key, title] of COLUMNS) {
  const cell = make("th", { role: "columnheader", scope: "col", class: key }, title);
  table.tHead.rows[0].append(cell);
  if (key === "plot") continue;
  const button = make("button", { type: "button" }, title);
  if (TITLES[key]) button.title = TITLES[key];
  cell.replaceChildren(button);
  byId("sort").append(make("option", { value: key }, title));
  const downFirst = !["name", "state"].includes(key);
  button.addEventListener("click", () => sortBy(key, sort.by === key ? !sort.down : downFirst));
}
byId("sort").addEventListener("change", ({ target }) => sortBy(target.value, !["", "name", "state"].includes(target.value)));
byId("filter").addEventListener("input", render);
byId("troubled").addEventListener("change", render);
byId("pause").addEventListener("click", ({ target }) => {
  paused = !paused;
  set(target, "aria-pressed", String(paused));
  updateFresh();
});
document.addEventListener("visibilitychange", run);
setInterval(updateFresh, 1000);
run();
