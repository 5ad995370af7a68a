// Asks the demo to send requests in two ways, one after the other, and shows what became of them.
"use strict";

const PASSES = [["stock", "uwsgi_pass"], ["ours", "rs_uwsgi_pass"]];
const RUNS = {
  burst: { about: "400 clients at the same moment. The listen queue takes 100 of them: stock answers the rest with 502, "
    + "rs_uwsgi_pass lets them wait." },
  upload: { about: "Eight uploads of 50 MB, one after the other. The application answers 413 at once and does not read them. Stock "
    + "fails to send the rest, and says 502 unless it happens to see the answer first; rs_uwsgi_pass passes it on." },
  chunked: { about: "A client sends 100,000 bytes without saying how many there will be (Transfer-Encoding: chunked). The "
    + "protocol needs the length first. Stock sends none, and the application reads nothing; rs_uwsgi_pass sends that of the "
    + "body it has read." },
  cookie: { about: "A cookie of 6,000 bytes, to a uWSGI that takes 4,096 (buffer-size) and resets the connection on more. "
    + "Stock makes a 502 of that; rs_uwsgi_pass answers 431 and names the header in nginx's log." },
  restart: { about: "Twelve clients count without a pause, and uWSGI is stopped and started meanwhile. Stock answers 502 until it "
    + "is back; with rs_uwsgi_connect_retry requests wait for it." },
  connections: { about: "The same Django, asked 100 times by rs_uwsgi_pass: uWSGI closes each connection, gunicorn's gthread "
    + "workers keep theirs, and nginx uses them again.", ways: [["uwsgi", "uWSGI"], ["gunicorn", "gunicorn"]] },
  mix: { about: "Eight clients, each with 20 requests: pages, pages that are not there, small uploads. Nothing is too "
    + "much here, and both ways answer alike." },
};
const EVENTS = { stop: "uWSGI is being stopped", start: "it is started", back: "it is back" };
const seconds = (time) => (time < 1 ? `${Math.round(time * 1000)} ms` : `${time.toFixed(2)} s`);

function element(tag, name, ...children) {
  const node = document.createElement(tag);
  node.className = name;
  node.append(...children);
  return node;
}

const listed = (statuses) => Object.entries(statuses)
  .map(([status, count]) => `${count} × ${status === "none" ? "no answer" : status}`).join(", ");

function headline(right, all) {
  const text = all === 1 ? (right ? "as it should be" : "not as it should be") : `${right} of ${all} as they should be`;
  return element("p", `big ${right === all ? "good" : "bad"}`, text);
}

function show(what, place, { statuses, connections, answers, body, log, ...times }) {
  const right = answers.filter(([, , isRight]) => isRight).length;
  place.replaceChildren(
    headline(right, answers.length),
    element("p", "", listed(statuses) + (body ? `: “${body.trim()}”` : "")),
    element("div", "dots", ...answers.map(([, , isRight]) => element("i", isRight ? "" : "bad"))),
    element("p", "", answers.length === 1 ? `It took ${seconds(times.longest)}.`
      : `All: ${seconds(times.seconds)}. Half of them within ${seconds(times.median)}, the last after ${seconds(times.longest)}.`),
  );
  const { new: made = 0, reused = 0 } = connections;
  if (what === "connections") place.append(element("p", "", `${made} connections made, ${reused} times one used again.`));
  if (log) place.append(element("p", "log", `nginx's log: ${log}`));
}

// Each answer when it comes, one a line.
async function follow(place, answer) {
  const head = element("div", ""), dots = element("div", "dots"), statuses = {};
  let right = 0, all = 0, count = 0, longest = 0, text = "";
  place.replaceChildren(head, dots);
  const take = (line) => {
    if (line.event) dots.append(element("i", "event", EVENTS[line.event]));
    if (line.log) place.append(element("p", "log", `nginx's log: ${line.log}`));
    if (!line.status) return;
    statuses[line.status] = (statuses[line.status] || 0) + 1;
    all += 1;
    right += line.right ? 1 : 0;
    count = Math.max(count, line.count || 0);
    longest = Math.max(longest, line.took);
    dots.append(element("i", line.right ? "" : "bad"));
    head.replaceChildren(headline(right, all), element("p", "", `Counter: ${count}. ${listed(statuses)}. The longest took ${seconds(longest)}.`));
  };
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    const lines = (text + value).split("\n");
    text = lines.pop();
    lines.map((line) => JSON.parse(line)).forEach(take);
  }
}

async function run(what, way, place) {
  place.replaceChildren("Sending …");
  const answer = await fetch(`run/${what}/${way}`, { method: "POST" });
  if (!answer.ok) throw new Error(way === "gunicorn" ? "gunicorn could not be installed" : `the demo answers ${answer.status}`);
  if (what === "restart") await follow(place, answer);
  else show(what, place, await answer.json());
}

const buttons = [...document.querySelectorAll("[data-what]")];
const places = [...document.querySelectorAll(".result")];
for (const button of buttons) {
  button.addEventListener("click", async () => {
    const { about, ways = PASSES } = RUNS[button.dataset.what];
    const note = document.getElementById("about");
    buttons.forEach((other) => { other.disabled = true; });
    note.textContent = about;
    places.forEach((place) => place.replaceChildren());
    document.querySelectorAll("h2").forEach((heading, n) => { heading.textContent = ways[n][1]; });
    try {
      for (const [n, [way]] of ways.entries()) await run(button.dataset.what, way, places[n]);
      note.dataset.done = button.dataset.what;
    } catch (error) {
      note.textContent = `It could not be done: ${error.message}`;
    }
    buttons.forEach((other) => { other.disabled = false; });
    button.focus();
  });
}
