// The page: its views, and the question for the token.

import { CommandView } from "./command.js";
import { LogView } from "./log.js";
import { get, setToken } from "./server.js";
import { SessionsView } from "./sessions.js";

const kinds = { exec: CommandView, attach: CommandView, log: LogView, sessions: SessionsView };
const views = {};
// Whether the server has let this page in, with a token if it wants one.
let isIn = false;
// The views that were started. The first look at a view shows something at once.
const started = new Set();

function show() {
  const wanted = location.hash.slice(1);
  const name = Object.hasOwn(kinds, wanted) ? wanted : "exec";
  for (const section of document.querySelectorAll("main > section")) {
    section.hidden = section.id !== name;
  }
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!isIn) return;
  views[name] ??= new kinds[name](document.getElementById(name));
  views[name].show();
  if (!started.has(name)) views[name].start();
  started.add(name);
}

const form = document.querySelector("form#token");
const why = form.querySelector("#why");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(form.token.value.trim());
  form.token.value = "";
  form.hidden = true;
  why.textContent = "";
  enter();
});

addEventListener("unauthorized", ({ detail }) => {
  if (!form.hidden) return;
  why.textContent = detail;
  form.hidden = false;
  form.token.focus();
});

// Asks for something small first, so that the question for the token comes before a failure.
async function enter() {
  try {
    await get("/sessions");
  } catch (error) {
    if (form.hidden) trouble(error.message);
    return;
  }
  isIn = true;
  show();
}

function trouble(text) {
  const notice = document.querySelector("#trouble");
  notice.textContent = text;
  notice.hidden = false;
}

if (globalThis.Terminal && globalThis.FitAddon) {
  addEventListener("hashchange", show);
  show();
  enter();
} else {
  trouble("xterm.js was not loaded: run `npm ci` in examples/pod-server/web, then load this page again");
}
