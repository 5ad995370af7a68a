// What the status page's script (page.js) is made of: words and numbers as people read them, elements, plots.
// Names and texts come from configurations and servers: they get into the document as text (textContent) and
// never as markup.
"use strict";

const SECONDS = 600; // of history: what nginx keeps for each server
const SERIES = ["requests", "errors", "waiting", "in_flight", "p50", "p95", "p99", "queue_p95"];
const QUANTILES = ["p50", "p95", "p99", "queue_p95"]; // null where there was nothing to measure
const byId = (id) => document.getElementById(id);

// ---- Words for what is counted ----

const STATES = { // state: [word, tone]
  up: ["up", "good"], draining: ["draining", "off"], down: ["down, as configured", "off"], checking: ["checking", "warning"],
  unavail: ["not reachable", "error"], unhealthy: ["fails its health checks", "error"],
};
const CLOSED = {
  off: "reuse is off (rs_uwsgi_reuse off, or rs_uwsgi_keepalive 0)",
  not_shared: "rs_uwsgi_bind chose its address for one request",
  exiting: "the worker was exiting",
  failed: "it failed or was closed",
  request_not_written: "the request was not sent completely",
  length_not_ours: "rs_uwsgi_string may hold a CONTENT_LENGTH",
  head: "a response to HEAD may have a body",
  no_response: "no response was read",
  not_final: "the response was not a final one",
  said_close: "the server said close",
  did_not_say_keepalive: "the server did not say keep-alive",
  ends_by_close: "the response ended with the connection",
  uncertain_end: "the end of the response was uncertain",
  not_ended: "the response was not read to its end",
  surplus: "bytes came after the response",
  too_many_requests: "rs_uwsgi_keepalive_requests was reached",
  too_old: "rs_uwsgi_keepalive_time was exceeded",
  place_needed: "a request of another worker waited for its place",
  idle_closed: "idle: the server closed it",
  idle_data: "idle: the server sent something",
  idle_timeout: "idle: rs_uwsgi_keepalive_timeout was over",
  idle_exiting: "idle: the worker was exiting",
  idle_excess: "idle: more than rs_uwsgi_keepalive",
  idle_gone: "idle: its server is gone",
};
const FAILURES = { // reason: [what it is, what to look at]
  refused: ["connection refused", "Nothing listens at this address. Is the server running?"],
  no_socket: ["no such socket file", "The server has not started, or its socket has another path."],
  permission: ["permission denied", "The user of nginx's workers may not write to the socket (uWSGI: chmod-socket)."],
  connect_timeout: ["no connection in time", "The host does not answer, or drops packets."],
  connect_error: ["another error while connecting", "The error log has the reason."],
  send_timeout: ["the request was not taken in time", "The server does not read: see rs_uwsgi_send_timeout."],
  read_timeout: ["no answer in time", "The application took longer than rs_uwsgi_read_timeout between two reads."],
  reset: ["connection reset", "The server dropped the connection, as when a worker is killed or vars exceed its buffer-size."],
  closed_early: ["closed before a complete head", "A worker died, or the vars exceed the server's buffer-size."],
  invalid_head: ["the head is not HTTP's", "Does this address speak uwsgi?"],
  head_too_big: ["the head is too big", "rs_uwsgi_buffer_size must hold all headers of a response."],
  invalid_body: ["invalid chunks", "The server's chunked response is not what RFC 9112 says."],
  cut_short: ["the response was cut short", "It ended before its length: look into the application's log."],
  other: ["something else", "The error log has the reason."],
};

// ---- Numbers as people read them ----

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const number = (n) => (n == null ? "–" : plain.format(n));
const rate = (n) => (n == null ? "–" : n >= 10 || n === 0 ? plain.format(n) : n.toFixed(1));
function time(ms) {
  if (ms == null) return "–";
  if (ms >= 60000) return `${plain.format(Math.floor(ms / 60000))} min ${Math.floor((ms % 60000) / 1000)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
  return ms >= 10 ? `${Math.round(ms)} ms` : `${+ms.toFixed(1)} ms`;
}
function size(bytes) {
  if (bytes == null) return "–";
  let unit = 0;
  for (; bytes >= 1024 && unit < 4; unit++) bytes /= 1024;
  return `${unit && bytes < 100 ? bytes.toFixed(1) : plain.format(bytes)} ${["bytes", "KB", "MB", "GB", "TB"][unit]}`;
}
const many = (n, one, more = one + "s") => `${number(n)} ${n === 1 ? one : more}`;
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");
function span(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const from = parts.findIndex(([unit]) => seconds >= unit);
  return parts.slice(from < 0 ? 3 : from).slice(0, 2)
    .map(([unit, name], at) => `${Math.floor((at ? seconds % parts[from][0] : seconds) / unit)} ${name}`).join(" ");
}
const sum = (list, value) => list.reduce((total, item) => total + value(item), 0);

// ---- The document: make an element once, change what differs ----

function make(tag, attributes = {}, ...children) {
  const node = tag === "svg" || tag === "path"
    ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
function set(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
function hide(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}
// Makes the children of "parent" that follow "after" those of "items", each of which has a "key". What is
// there already stays, and is moved only where its place has changed.
function patch(parent, items, create, update, after = null) {
  const known = (parent.known ??= new Map()), wanted = new Set(items.map((item) => item.key));
  for (const [key, node] of known) {
    if (!wanted.has(key)) { node.remove(); known.delete(key); }
  }
  const focused = document.activeElement;
  let place = after ? after.nextSibling : parent.firstChild;
  for (const item of items) {
    let node = known.get(item.key);
    if (!node) known.set(item.key, (node = create(item)));
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
    update(node, item);
  }
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}
function facts(parent, list) { // of [name, value, hint]
  patch(parent, list.map(([name, value, hint = ""]) => ({ key: name, value, hint })),
    ({ key }) => make("div", {}, make("dt", {}, key), make("dd"), make("dd", { class: "hint soft" })),
    (node, { value, hint }) => {
      setText(node.children[1], value);
      setText(node.children[2], hint);
      hide(node.children[2], !hint);
    });
}

// ---- Plots ----

// A line through "values"; a gap where there is none. The last 600 seconds are 600 wide, 0 to "top" 100 high.
function lineOf(values, top, step = 1) {
  let path = "", drawing = false;
  values.forEach((value, at) => {
    if (value == null) { drawing = false; return; }
    const y = (100 - (value / top) * 98).toFixed(1);
    path += drawing ? `L${at * step} ${y}` : `M${at * step} ${y}h${step / 2}`;
    drawing = true;
  });
  return path;
}
const areaOf = (line) => (line ? `${line}V100H0z` : "");
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].find((factor) => factor * power >= value) * power;
}
class Plot {
  // "lines" are of [series, name]; "show" makes a text of a value. Quantiles have no area below them.
  constructor(title, lines, show) {
    Object.assign(this, { title, lines, show, isArea: !QUANTILES.includes(lines[0][0]) });
    const classes = lines.map(([series], at) => (series === "errors" ? "line-errors" : `line${at}`));
    this.keys = classes.map((name) => make("span", { class: `key ${name}` }, make("span")));
    this.area = make("path", { class: "area line0" });
    this.paths = classes.map((name) => make("path", { class: name }));
    this.at = make("path", { class: "at" });
    this.svg = make("svg", { role: "img", viewBox: "0 0 600 100", preserveAspectRatio: "none" },
      this.area, ...this.paths.slice().reverse(), this.at);
    this.top = make("span", { class: "top" });
    this.when = make("span", {}, "now");
    this.node = make("figure", {}, make("figcaption", {}, make("b", {}, title), ...this.keys),
      make("div", { class: "plot" }, this.svg, this.top),
      make("div", { class: "axis" }, make("span", {}, "10 minutes ago"), this.when));
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.second = Math.max(0, Math.min(SECONDS - 1, Math.floor(((event.clientX - box.left) / box.width) * SECONDS)));
      this.read();
    });
    this.svg.addEventListener("pointerleave", () => { this.second = undefined; this.read(); });
  }
  update(past) {
    this.past = past;
    const most = Math.max(...this.lines.flatMap(([series]) => past[series].map((value) => value ?? 0)));
    const top = roundUp(most || 1);
    this.lines.forEach(([series], at) => set(this.paths[at], "d", lineOf(past[series], top)));
    set(this.area, "d", this.isArea ? areaOf(lineOf(past[this.lines[0][0]], top)) : "");
    setText(this.top, this.show(top));
    this.read();
    const last = this.lines.map(([series, name]) => `${name} ${this.show(lastOf(past[series]))}`).join(", ");
    set(this.svg, "aria-label", `${this.title}, the last ten minutes. Now: ${last}. Most: ${this.show(most)}.`);
  }
  // The values of the second under the pointer, or the last ones.
  read() {
    if (!this.past) return;
    const at = this.second;
    this.lines.forEach(([series, name], line) => {
      const value = at === undefined ? lastOf(this.past[series]) : this.past[series][at];
      setText(this.keys[line].firstChild, `${name} ${this.show(value)}`);
    });
    set(this.at, "d", at === undefined ? "" : `M${at} 0V100`);
    setText(this.when, at === undefined ? "now" : clock(this.past.end - SECONDS + 1 + at));
  }
}
const lastOf = (values) => values[SECONDS - 1];
const plotsOf = (which) => [
  new Plot("Requests a second", [["requests", "requests"], ["errors", "errors"]], rate),
  new Plot("Waiting, and in flight", [["waiting", "waiting"], ["in_flight", "in flight"]], number),
  new Plot(`Response time${which}`, [["p50", "p50"], ["p95", "p95"], ["p99", "p99"]], time),
];
