// The view of the sessions.

import { get } from "./server.js";

const INTERVAL = 1000;

export class SessionsView {
  #section;
  #state;

  constructor(section) {
    this.#section = section;
    this.#state = section.querySelector(".state");
  }

  show() {}

  // Updates the list each second from now on.
  start() {
    this.#update();
  }

  async #update() {
    // A list that nobody sees is not asked for.
    if (!this.#section.hidden && !document.hidden) {
      try {
        this.#fill(await get("/sessions"));
      } catch (error) {
        this.#say(error.message, "bad");
      }
    }
    setTimeout(() => this.#update(), INTERVAL);
  }

  #fill({ draining, live, ended }) {
    this.#rows("live", live, common);
    this.#rows("ended", ended, (session) => [
      ...common(session),
      session.closeCode ?? "none",
      session.outcome ?? "",
      session.cause,
    ]);
    const count = `${live.length} alive`;
    this.#say(draining ? `the server is stopping, ${count}` : count, draining ? "bad" : "open");
  }

  #rows(list, sessions, cells) {
    const rows = sessions.map((session) => {
      const row = document.createElement("tr");
      for (const text of cells(session)) row.insertCell().textContent = text;
      return row;
    });
    this.#section.querySelector(`[data-list=${list}]`).replaceChildren(...rows);
  }

  #say(text, kind) {
    // A status that is written anew each second would be read out each second.
    if (this.#state.textContent !== text) this.#state.textContent = text;
    this.#state.dataset.kind = kind;
  }
}

function common({ id, kind, subprotocol, seconds, received, sent }) {
  return [id, kind, subprotocol || "none", duration(seconds), size(received), size(sent)];
}

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function size({ bytes }) {
  if (bytes < 1024) return `${bytes} B`;
  const kib = bytes / 1024;
  return kib < 1024 ? `${kib.toFixed(1)} KiB` : `${(kib / 1024).toFixed(1)} MiB`;
}
