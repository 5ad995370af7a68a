// Says how nginx came to this page, which it tells in the header Server-Timing.
function told() {
  const [page] = performance.getEntriesByType("navigation");
  const said = Object.fromEntries(page.serverTiming.map(({ name, description }) => [name, description]));
  const waited = `It waited ${said.queue} s for it.`;
  return {
    none: "nginx asked no server for it.",
    new: `nginx made a new connection to the server for it. ${waited}`,
    reused: `nginx used a connection to the server again for it. ${waited}`,
  }[said.connection] || "nginx does not say how it got its connection: this was uwsgi_pass.";
}

const timing = document.getElementById("timing");
if (timing) timing.textContent = told();

// Asks Django for the time, which shows that script and server can talk through nginx.
const clock = document.getElementById("clock");

async function tick() {
  try {
    const answer = await fetch(clock.dataset.source);
    const { time, process } = await answer.json();
    clock.value = `${new Date(time).toLocaleTimeString()} (process ${process})`;
  } catch (error) {
    clock.value = `no answer (${error.message})`;
  }
}

if (clock) {
  tick();
  setInterval(tick, 5000);
}
