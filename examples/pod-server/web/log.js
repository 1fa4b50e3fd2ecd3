// The view of the log.

import { Screen } from "./screen.js";
import { Socket, fromBase64 } from "./socket.js";

const PATH = "/api/v1/namespaces/default/pods/demo/log";
const SUBPROTOCOLS = ["binary.k8s.io", "base64.binary.k8s.io"];

// The bytes that may wait for the screen. The pod's process waits for no reader of its log, and the
// server gives up one that is far behind, so this page gives up too.
const WAITING = 1024 * 1024;

export class LogView {
  #section;
  #form;
  #state;
  #screen;
  #socket;
  #waiting = 0;
  // The pieces that have come in a pause.
  #held;

  constructor(section) {
    this.#section = section;
    this.#form = section.querySelector("form");
    this.#state = section.querySelector(".state");
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    this.#form.stop.addEventListener("click", () => this.#socket?.close());
    this.#form.pause.addEventListener("click", () => this.#pause(!this.#held));
  }

  // Called when the view has become visible: a screen that is hidden has no size.
  show() {
    if (this.#screen) return;
    this.#screen = new Screen(this.#section.querySelector(".screen"));
    this.#screen.isPlain = true;
  }

  start() {
    if (this.#socket) return;
    const query = new URLSearchParams({ follow: this.#form.follow.checked });
    if (this.#form.lines.value) query.set("tailLines", this.#form.lines.value);
    this.#screen.reset();
    this.#waiting = 0;
    this.#pause(false);
    this.#say("connecting");
    let isBehind = false;
    const socket = new Socket(`${PATH}?${query}`, SUBPROTOCOLS, {
      open: (name) => this.#say(`connected: ${name}`, "open"),
      message: (data) => {
        if (isBehind) return;
        const bytes = typeof data === "string" ? fromBase64(data) : new Uint8Array(data);
        this.#waiting += bytes.length;
        isBehind = this.#waiting > WAITING;
        if (isBehind) socket.close();
        if (this.#held) this.#held.push(bytes);
        else this.#write(bytes);
      },
      end: (text, code) => {
        this.#socket = undefined;
        if (isBehind) this.#say("the log ran away from this page: show it again", "bad");
        else if (code === 1000) this.#say("end of the log", "good");
        else this.#say(text, "bad");
      },
    });
    this.#socket = socket;
    this.#enable();
  }

  #write(bytes) {
    this.#screen.write(bytes, () => (this.#waiting -= bytes.length));
  }

  #pause(isPaused) {
    const held = this.#held ?? [];
    this.#held = isPaused ? [] : undefined;
    held.forEach((bytes) => this.#write(bytes));
    this.#form.pause.textContent = isPaused ? "Go on" : "Pause";
    this.#form.pause.setAttribute("aria-pressed", isPaused);
  }

  #say(text, kind = "") {
    this.#state.textContent = text;
    this.#state.dataset.kind = kind;
    this.#enable();
  }

  #enable() {
    this.#form.start.disabled = Boolean(this.#socket);
    this.#form.stop.disabled = !this.#socket;
    this.#form.pause.disabled = !this.#socket && !this.#held;
  }
}
