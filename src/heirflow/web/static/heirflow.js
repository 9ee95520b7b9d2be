// The page lives: the server sends its main part anew, and this puts in what has changed. Without it the page can be read too.
"use strict";
(() => {
  const main = document.getElementById("main"), spoken = document.getElementById("spoken"), sign = document.getElementById("live");
  const mode = document.body.dataset.live;
  const QUIET_MS = 12000, POLL_MS = 3000, STREAM_MS = 8000;
  let heardAt = Date.now(), askedAt = heardAt, lastSpoken = main.querySelector("#body")?.dataset.spoken;

  // What stands there becomes what has come, part by part: the focus, what is selected and what is open stay.
  function become(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || (old.id ?? "") !== (fresh.id ?? "")) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS") && name !== "disabled") old.removeAttribute(name);
    }
    for (const { name, value } of [...fresh.attributes]) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    // What has an id moves rather than becoming another: a member that takes another place keeps the focus on it.
    const known = new Map([...old.children].filter((each) => each.id).map((each) => [each.id, each]));
    let place = old.firstChild;
    for (const each of [...fresh.childNodes]) {
      const own = each.id ? known.get(each.id) : undefined;
      if (own) known.delete(each.id); // each once, whatever stands there twice
      if (own && own !== place) old.insertBefore(own, place);
      const standing = own ?? place;
      if (!standing || (!own && standing.id && known.has(standing.id))) {
        old.insertBefore(each, place);
        continue;
      }
      place = standing === place || own ? standing.nextSibling : place;
      become(standing, each);
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  function took(html) {
    heardAt = Date.now();
    out = false;
    const fresh = document.createElement("main");
    fresh.innerHTML = html;
    times(fresh);
    for (const { name, value } of [...main.attributes]) fresh.setAttribute(name, value);
    const held = document.activeElement;
    become(main, fresh);
    if (held !== document.activeElement && held.isConnected) held.focus({ preventScroll: true }); // it was moved
    const words = main.querySelector("#body")?.dataset.spoken;
    if (words && words !== lastSpoken) spoken.textContent = lastSpoken = words;
    tell();
  }

  const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
  const DAY = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short" });
  const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

  function ago(seconds) {
    const s = Math.max(0, Math.round(seconds));
    if (s < 120) return `${s} s ago`;
    if (s < 7200) return `${Math.floor(s / 60)} min ago`;
    if (s < 172800) return `${Math.floor(s / 3600)} h ago`;
    return `${Math.floor(s / 86400)} d ago`;
  }

  function times(root) {
    for (const each of root.querySelectorAll("time")) {
      const at = new Date(each.dateTime);
      if ("ago" in each.dataset) {
        each.textContent = ago(Number(each.dataset.ago) + (Date.now() - heardAt) / 1000); // by the store's clock
        each.title = WHOLE.format(at);
      } else {
        each.textContent = (each.dataset.form === "clock" ? CLOCK : each.dataset.form === "day" ? DAY : WHOLE).format(at);
      }
    }
  }

  const WORDS = {
    live: "live", still: "not live", out: "log in again: what this page shows is old",
    lost: "this page has lost its server: what it shows is old",
  };
  let out = false;
  function tell() {
    const still = Date.now() - heardAt > QUIET_MS && !document.hidden;
    const state = mode === "no" ? "still" : out ? "out" : still ? "lost" : "live";
    if (sign.dataset.state === state) return;
    sign.dataset.state = state;
    sign.querySelector(".words").textContent = WORDS[state];
    if (state === "lost" || state === "out") spoken.textContent = WORDS[state];
  }

  async function fetchMain() {
    askedAt = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { "X-Heirflow-Part": "main" }, cache: "no-store" });
      out = answer.status === 401 || answer.status === 403 || answer.redirected;
      if (answer.headers.get("X-Heirflow-Part")) took(await answer.text());
    } catch { /* the sign tells */ }
    tell();
  }

  let timer;
  async function poll() {
    clearTimeout(timer);
    await fetchMain();
    clearTimeout(timer);
    timer = setTimeout(poll, document.hidden ? 5 * POLL_MS : POLL_MS);
  }

  let stream;
  function listen() {
    stream?.close();
    stream = new EventSource(location.href);
    stream.addEventListener("main", (event) => took(event.data));
    stream.addEventListener("same", () => { heardAt = Date.now(); tell(); });
    stream.addEventListener("error", () => {
      if (stream.readyState !== EventSource.CLOSED) return;
      fetchMain(); // too many streams: this page asks by itself
      setTimeout(listen, 5000);
    });
  }

  // A page that nobody sees asks for nothing, or seldom.
  function wake() {
    if (mode === "stream" && document.hidden) stream?.close();
    else if (mode === "stream") listen();
    else if (mode === "poll" && !document.hidden) poll();
  }
  document.addEventListener("visibilitychange", wake);
  times(document);
  if (mode === "stream") wake();
  else if (mode === "poll") timer = setTimeout(poll, POLL_MS);
  setInterval(() => {
    times(main);
    // Something between here and the server may keep a stream to itself.
    if (mode === "stream" && !document.hidden && Date.now() - Math.max(heardAt, askedAt) > STREAM_MS) fetchMain();
    tell();
  }, 1000);
  tell();

  // Orders: each after a question, with a header that no form of another page can send.
  const ask = document.getElementById("ask"), said = document.getElementById("ask-said"), yes = document.getElementById("ask-yes");
  const token = document.getElementById("token");
  let wanted;
  main.addEventListener("click", (event) => {
    const button = event.target.closest("button.order");
    if (!button) return;
    wanted = { ...button.dataset };
    document.getElementById("ask-text").textContent = wanted.ask;
    said.textContent = "";
    yes.textContent = button.textContent;
    if (token) token.value = sessionStorage.getItem("heirflow-token") ?? "";
    ask.showModal();
  });
  document.getElementById("ask-no").addEventListener("click", () => ask.close());
  ask.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    yes.disabled = true;
    said.textContent = "";
    const headers = { "Content-Type": "application/json", "X-Heirflow-Order": "yes" };
    if (token) headers.Authorization = `Bearer ${token.value}`;
    const { what, election, store, member, leaving } = wanted;
    const body = JSON.stringify({ what, election, store: Number(store), member: member ?? null, leaving: leaving ?? null });
    try {
      const answer = await fetch("api/order", { method: "POST", headers, body });
      const result = await answer.json().catch(() => ({}));
      if (answer.ok) {
        if (token) sessionStorage.setItem("heirflow-token", token.value);
        ask.close();
        spoken.textContent = result.sentence;
      } else said.textContent = result.sentence ?? result.detail ?? `The server refused: ${answer.status}`;
    } catch {
      said.textContent = "The server did not answer. The order may still have been given: look at the page.";
    }
    yes.disabled = false;
  });
})();
