// Asks the demo to send requests in both ways, one after the other, and shows what became of them.
"use strict";

const ABOUT = {
  burst: "400 clients at the same moment. The listen queue takes 100 of them: stock answers the rest with 502, "
    + "rs_uwsgi_pass lets them wait.",
  upload: "A client sends 20 MB. The application answers 413 at once and does not read them. Stock fails to send "
    + "the rest, and says 502; rs_uwsgi_pass sees the answer and passes it on.",
  mix: "Eight clients, each with 20 requests: pages, pages that are not there, small uploads. Nothing is too "
    + "much here, and both ways answer alike.",
};
const WANTED = { burst: ["200"], upload: ["413"], mix: ["200", "404"] };
const seconds = (time) => (time < 1 ? `${Math.round(time * 1000)} ms` : `${time.toFixed(2)} s`);

function element(tag, name, ...children) {
  const node = document.createElement(tag);
  node.className = name;
  node.append(...children);
  return node;
}

async function run(what, way) {
  const place = document.querySelector(`[data-way=${way}]`);
  place.replaceChildren("Sending …");
  const answer = await fetch(`run/${what}/${way}`, { method: "POST" });
  if (!answer.ok) throw new Error(`the demo answers ${answer.status}`);
  const { statuses, answers, ...times } = await answer.json();
  const isGood = (status) => WANTED[what].includes(status);
  const right = answers.filter(([status]) => isGood(status)).length;
  const list = Object.entries(statuses).map(([status, count]) => `${count} × ${status === "none" ? "no answer" : status}`);
  place.replaceChildren(
    element("p", `big ${right === answers.length ? "good" : "bad"}`, `${right} of ${answers.length} as the application says`),
    element("p", "", list.join(", ")),
    element("div", "dots", ...answers.map(([status]) => element("i", isGood(status) ? "" : "bad"))),
    element("p", "", `All: ${seconds(times.seconds)}. Half of them within ${seconds(times.median)}, the last after ${seconds(times.longest)}.`),
  );
}

const buttons = [...document.querySelectorAll("[data-what]")];
for (const button of buttons) {
  button.addEventListener("click", async () => {
    const { what } = button.dataset;
    buttons.forEach((other) => { other.disabled = true; });
    document.getElementById("about").textContent = ABOUT[what];
    document.querySelectorAll("[data-way]").forEach((place) => place.replaceChildren());
    try {
      for (const way of ["stock", "ours"]) await run(what, way);
    } catch (error) {
      document.getElementById("about").textContent = `It could not be done: ${error.message}`;
    }
    buttons.forEach((other) => { other.disabled = false; });
    button.focus();
  });
}
