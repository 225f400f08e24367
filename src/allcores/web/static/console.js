// Only comfort: each page works without this. Live parts are asked for again while the page is looked at, and come as
// "304 Not Modified" as long as nothing has changed. Where the server has a stream of events for it, the page asks when
// it is told to, and rarely besides.
"use strict";
(() => {
  const root = document.documentElement;
  const wait = Number(root.dataset.poll || "0") * 1000;
  let tag = root.dataset.tag || "", failures = 0, timer = 0, asking = null;
  let source = null, told = false, asked = 0, held = 0, change = "0";
  // With a stream: a second between two questions, at least; and so many times as seldom without an event.
  const pace = Math.min(wait, 1000), seldom = 15;

  const ago = (seconds) => {
    const s = Math.round(Math.abs(seconds));
    const text = s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : s < 86400 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
    return seconds >= 0 ? `${text} ago` : `in ${text}`;
  };
  // The clock of the browser's machine may be another one than the server's, whose times these are.
  let ahead = 0;
  const compare = (page) => { ahead = Date.now() / 1000 - Number(page.documentElement.dataset.now); };
  const times = () => {
    const now = Date.now() / 1000 - ahead;
    for (const each of document.querySelectorAll("time[data-at]")) {
      const text = ago(now - Number(each.dataset.at));
      if (each.textContent !== text) each.textContent = text;
    }
  };
  const say = (text) => { for (const each of document.querySelectorAll("[data-live-word]")) each.textContent = text; };

  // A part that is being used is left alone: an open question, a text in a field, a ticked box.
  const used = (part) => part.contains(document.activeElement) && document.activeElement !== document.body
    || part.querySelector("details[open], input:checked:not([data-all])") !== null;

  // What needs a script is hidden as the server sends it.
  const unveil = (page) => { for (const each of page.querySelectorAll("[data-needs-script]")) each.hidden = false; };

  const replace = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    unveil(fresh);
    compare(fresh);
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (other === null || used(part)) continue;
      if (part.innerHTML !== other.innerHTML) part.replaceWith(document.adoptNode(other));
    }
    const next = fresh.documentElement.dataset.poll;
    if (next === undefined) root.dataset.poll = "0";
    times();
  };

  const ask = async () => {
    timer = 0;
    if (document.hidden || asking !== null) return;
    told = false;
    asked = Date.now();
    const mine = asking = new AbortController();
    try {
      const answer = await fetch(location.href, {
        headers: {"X-Poll": "1", "X-Change": change, ...(tag ? {"If-None-Match": tag} : {})},
        credentials: "same-origin", cache: "no-store", signal: mine.signal,
      });
      if (answer.status === 200) { tag = answer.headers.get("ETag") || ""; replace(await answer.text()); }
      else if (answer.status !== 304) throw new Error(String(answer.status));
      failures = 0;
      say("Live");
    } catch {
      if (mine.signal.aborted) return;
      failures += 1;
      say("Not reachable: what you see is from before");
    }
    asking = null;
    plan();
  };
  // A sent form changes what this page shows, a deleted job to a page that is not found: until the answer is there,
  // which is another page or a file, this one is not asked for.
  const hold = (event) => {
    if (event.defaultPrevented || wait === 0) return;
    if (asking !== null) { asking.abort(); asking = null; }
    clearTimeout(timer);
    held = Date.now() + Math.max(wait, 15000);
    timer = setTimeout(ask, held - Date.now());
  };
  const plan = () => {
    if (timer || document.hidden || Number(root.dataset.poll || "0") === 0) return;
    if (told) { soon(); return; }
    const streams = source !== null && source.readyState === EventSource.OPEN;
    timer = setTimeout(ask, wait * (streams ? seldom : Math.min(15, 2 ** failures)));
  };
  const soon = () => {
    told = true;
    if (document.hidden || asking !== null || Date.now() < held || Number(root.dataset.poll || "0") === 0) return;
    clearTimeout(timer);
    timer = setTimeout(ask, Math.max(0, asked + pace - Date.now()));
  };
  const deaf = () => {
    if (source !== null) source.close();
    source = null;
  };
  const listen = () => {
    if (!root.dataset.events || source !== null || document.hidden) return;
    source = new EventSource(root.dataset.events);
    source.addEventListener("message", (event) => { change = event.data; soon(); });
    source.addEventListener("full", () => { deaf(); delete root.dataset.events; clearTimeout(timer); timer = 0; plan(); });
    source.addEventListener("error", () => {
      if (source === null) return;
      if (source.readyState === EventSource.CLOSED) deaf();
      clearTimeout(timer);
      timer = 0;
      if (Date.now() >= held) plan();
    });
  };

  // A double click, or one more because nothing happens yet, would be two jobs. A page that is shown again starts anew.
  let sent = new WeakMap();
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    const now = Date.now();
    if (now - (sent.get(event.target) ?? -Infinity) < 10000) event.preventDefault();
    else sent.set(event.target, now);
  });
  addEventListener("pageshow", () => { sent = new WeakMap(); });

  if (wait > 0) {
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) { deaf(); clearTimeout(timer); timer = 0; say("Paused"); } else { say("Live"); listen(); void ask(); }
    });
    document.addEventListener("submit", hold);
    say("Live");
    listen();
    plan();
  }
  compare(document);
  setInterval(() => { if (!document.hidden) times(); }, 1000);
  times();

  document.addEventListener("change", (event) => {
    // The boxes stand behind their form, and name it.
    if (event.target.matches("[data-all]"))
      for (const box of event.target.form.elements) if (box.name === "id") box.checked = event.target.checked;
  });
  // Copying works on plain HTTP, too, where there is no clipboard API.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button === null) return;
    const source = document.getElementById(button.dataset.copy);
    const area = document.createElement("textarea");
    area.value = source.textContent;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
    button.textContent = "Copied";
  });
  unveil(document);
  if (document.querySelector("input[type=search]") !== null)
    for (const each of document.querySelectorAll("[data-needs-search]")) each.hidden = false;
  // "/" goes to the search, as in other consoles.
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
    const search = document.querySelector("input[type=search]");
    if (search !== null) { event.preventDefault(); search.focus(); }
  });
})();
