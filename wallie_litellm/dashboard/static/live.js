"use strict";
// Refreshes the panels while the page is visible. The server holds each response until a provider's state changes, or for
// some seconds, so that an outage shows at once and an idle page costs little. The response is the server's own HTML,
// escaped there; it is merged into the page, so that focus, scrolled tables, opened details and clicks in progress stay.
(() => {
  const PAUSE = 500, TIMEOUT = 9000, LONGEST = 10000; // milliseconds
  const panels = document.getElementById("panels");
  const live = document.getElementById("live");
  const spoken = document.getElementById("spoken");
  const title = document.title;
  const url = panels.dataset.refresh + "&after=";
  let version = ""; // of the panels on the page; without one, the server answers at once
  let wait = PAUSE;
  let timer = 0;
  let busy = false;
  let pressed = false;
  let announced; // the last text for screen readers

  function showConnection(state) {
    if (live.dataset.state === state) return;
    live.dataset.state = state;
    live.textContent = live.dataset[state];
    if (state === "lost" || state === "login") spoken.textContent = live.textContent;
    if (state !== "login") return;
    const link = document.createElement("a");
    link.href = panels.dataset.login;
    link.textContent = live.dataset.again;
    live.append(" ", link);
  }

  // Announces unhealthy providers to screen readers when they change, and counts them in the tab's title.
  function announce() {
    const summary = panels.querySelector(".summary");
    if (summary === null) return;
    const down = Number(summary.dataset.down);
    const text = summary.dataset.spoken;
    document.title = down > 0 ? `(${down}) ${title}` : title;
    if (announced !== undefined && announced !== text) spoken.textContent = text;
    announced = text;
  }

  // Replacing selected text would end the selection, and replacing a pressed link would lose the click.
  function isInUse() {
    const selection = document.getSelection();
    return pressed || (selection !== null && !selection.isCollapsed && panels.contains(selection.anchorNode));
  }

  function key(node) {
    if (node.nodeType !== Node.ELEMENT_NODE) return "";
    return node.id || node.getAttribute("data-provider") || node.getAttribute("data-alert") || "";
  }

  function alike(one, other) {
    return one.nodeType === other.nodeType && one.nodeName === other.nodeName && key(one) === key(other);
  }

  function match(from, fresh) {
    if (from === null || alike(from, fresh)) return from;
    if (key(fresh)) {
      for (let later = from.nextSibling; later !== null; later = later.nextSibling) if (alike(later, fresh)) return later;
    }
    return null;
  }

  function merge(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const {name, value} of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const {name} of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
    }
    mergeChildren(old, fresh);
  }

  function mergeChildren(old, fresh) {
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      const found = match(at, next);
      if (found === null) {
        old.insertBefore(next, at);
      } else if (found === at) {
        at = at.nextSibling;
        merge(found, next);
      } else {
        old.insertBefore(found, at);
        merge(found, next);
      }
    }
    while (at !== null) {
      const rest = at.nextSibling;
      at.remove();
      at = rest;
    }
  }

  function show(html) {
    const focused = panels.contains(document.activeElement) ? document.activeElement : null;
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    mergeChildren(panels, fresh.content);
    if (focused !== null && document.activeElement !== focused) {
      const again = focused.id ? document.getElementById(focused.id) : null;
      (again || panels).focus({preventScroll: true});
    }
    announce();
  }

  async function refresh() {
    if (busy) return;
    busy = true;
    const request = new AbortController();
    const limit = setTimeout(() => request.abort(), TIMEOUT);
    try {
      const answer = await fetch(url + (wait > PAUSE ? "" : version), {
        signal: request.signal,
        cache: "no-store",
        credentials: "same-origin",
        redirect: "error",
      });
      if (answer.status === 401 || answer.status === 403) {
        showConnection("login");
        return;
      }
      if (answer.status !== 200 && answer.status !== 204) throw new Error(String(answer.status));
      const html = answer.status === 200 ? await answer.text() : null;
      const held = html !== null && isInUse();
      if (html !== null && !held) {
        show(html);
        version = answer.headers.get("X-Wallie-Version") || "";
      }
      wait = PAUSE;
      showConnection(held ? "held" : "on");
    } catch {
      wait = Math.min(wait * 2, LONGEST);
      showConnection("lost");
    } finally {
      clearTimeout(limit);
      busy = false;
    }
    schedule();
  }

  function schedule() {
    clearTimeout(timer);
    if (document.visibilityState === "visible") timer = setTimeout(refresh, wait);
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.visibilityState === "visible") refresh();
  });
  window.addEventListener("online", refresh);
  panels.addEventListener("pointerdown", () => { pressed = true; });
  for (const end of ["pointerup", "pointercancel", "blur"]) window.addEventListener(end, () => { pressed = false; });
  announce();
  schedule();
})();
