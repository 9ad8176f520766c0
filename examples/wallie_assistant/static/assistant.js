"use strict";

const user = "maria";
const byId = (id) => document.getElementById(id);
let conversation = null;

function put(list, text, kind) {
  const item = document.createElement("li");
  item.className = kind || "";
  item.append(document.createElement("span"));
  item.firstChild.textContent = text;
  byId(list).append(item);
  return item;
}

function note(item, text, kind) {
  const line = document.createElement("span");
  line.className = kind || "served";
  line.textContent = text;
  item.append(line);
}

function describe(served) {
  const cost = served.cost_usd === null ? "no price known" : `$${served.cost_usd.toFixed(6)}`;
  const parts = [`${served.provider}, ${served.model}`];
  if (served.fallback) parts.push("by fallback");
  if (served.waited_ms >= 1) parts.push(`waited ${(served.waited_ms / 1000).toFixed(1)} s`);
  parts.push(`${(served.latency_ms / 1000).toFixed(1)} s`, cost);
  if (served.cached_tokens) parts.push(`${served.cached_tokens} tokens from the prompt cache`);
  return parts.join(" · ");
}

function explain(error) {
  const again = error.retry_after ? ` Try again in ${Math.ceil(error.retry_after)} s.` : "";
  return `${error.message}${again}`;
}

async function post(path, body) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body || {}) };
  const response = await fetch(path, options);
  if (response.ok) return response;
  const answer = await response.json();
  throw new Error(answer.error ? explain(answer.error) : JSON.stringify(answer.detail));
}

async function* lines(response) {
  let rest = "";
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

async function send(message) {
  put("messages", message, "user");
  const item = put("messages", "");
  try {
    const response = await post("api/wallie.chatInConversation", { message, user, conversation });
    for await (const line of lines(response)) {
      if (line.text) item.firstChild.textContent += line.text;
      if (line.error) note(item, explain(line.error), "error");
      if (line.done) {
        conversation = line.done.conversation;
        note(item, describe(line.done));
      }
    }
  } catch (error) {
    note(item, error.message, "error");
  }
  await listConversations();
}

async function suggest() {
  byId("suggestions").replaceChildren();
  try {
    const answer = await (await post("api/wallieAnalysis.suggestMessage", { conversation, user })).json();
    for (const text of [answer.suggestion, ...answer.alternatives]) {
      const use = document.createElement("button");
      use.type = "button";
      use.textContent = "Use";
      use.onclick = () => { byId("message").value = text; byId("message").focus(); };
      put("suggestions", text).append(use);
    }
    note(byId("suggestions").firstChild, describe(answer.served));
  } catch (error) {
    put("suggestions", error.message, "error");
  }
}

async function open(id) {
  conversation = id;
  byId("messages").replaceChildren();
  byId("suggestions").replaceChildren();
  if (id === null) return;
  const messages = await (await fetch(`api/conversations/${id}`)).json();
  for (const message of messages) put("messages", message.content, message.role);
}

async function listConversations() {
  const all = await (await fetch("api/conversations")).json();
  byId("conversations").replaceChildren();
  for (const one of all) {
    const item = put("conversations", "");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${one.id}: ${one.user}, ${one.messages} messages`;
    button.onclick = () => open(one.id);
    item.firstChild.append(button);
    if (one.summary) note(item, one.summary);
  }
}

async function summarise() {
  byId("night").textContent = "Summarising …";
  try {
    const result = await (await post("api/wallieAnalysis.summarise")).json();
    byId("night").textContent = `${result.summarised} summarised, ${result.failed} failed`;
  } catch (error) {
    byId("night").textContent = error.message;
  }
  await listConversations();
}

async function listProviders() {
  const response = await fetch("simulation");
  if (!response.ok) return; // real providers
  byId("simulation").hidden = false;
  for (const name of await response.json()) {
    const button = document.createElement("button");
    const show = (down) => {
      button.textContent = down ? `Heal ${name}` : `Break ${name}`;
      button.setAttribute("aria-pressed", down);
    };
    button.type = "button";
    button.onclick = async () => {
      const down = button.getAttribute("aria-pressed") !== "true";
      await post(`simulation/${name}/${down ? "outage" : "recovery"}`);
      show(down);
    };
    show(false);
    put("providers", name).append(button);
  }
}

byId("ask").onsubmit = (event) => {
  event.preventDefault();
  const message = byId("message").value.trim();
  byId("message").value = "";
  if (message) send(message);
};
byId("new").onclick = () => open(null);
byId("suggest").onclick = suggest;
byId("summarise").onclick = summarise;
listConversations();
listProviders();
