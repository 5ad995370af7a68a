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
