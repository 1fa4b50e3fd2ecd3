// The views of exec and attach.

import { Channels, STDERR } from "./channels.js";
import { Screen } from "./screen.js";

const POD = "/api/v1/namespaces/default/pods/demo";

export class CommandView {
  #kind;
  #form;
  #inputForm;
  #state;
  #section;
  #stdout;
  #stderr;
  #session;
  #isTerminal = false;

  constructor(section) {
    this.#kind = section.id;
    this.#section = section;
    section.append(document.querySelector("template#command").content.cloneNode(true));
    section.querySelectorAll("[data-for]").forEach((element) => {
      if (element.dataset.for !== this.#kind) element.remove();
    });
    this.#form = section.querySelector("form");
    this.#inputForm = section.querySelector("form.input");
    this.#state = section.querySelector(".state");
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.start();
    });
    this.#form.stop.addEventListener("click", () => this.#session?.close());
    this.#inputForm.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#type(`${this.#inputForm.line.value}\n`);
      this.#inputForm.line.value = "";
    });
    this.#inputForm.end.addEventListener("click", () => {
      this.#session.endInput();
      this.#inputForm.hidden = true;
    });
    section.querySelector(".keys").addEventListener("click", ({ target }) => {
      if (target.dataset.key) {
        this.#type(target.dataset.key);
        this.#stdout.focus();
      }
    });
  }

  // Called when the view has become visible: a screen that is hidden has no size.
  show() {
    this.#stdout ??= new Screen(this.#screen("stdout"), {
      input: (text) => this.#type(text),
      size: (columns, rows) => this.#isTerminal && this.#session?.resize(columns, rows),
      leave: () => this.#buttons().find((button) => !button.disabled)?.focus(),
    });
    this.#stdout.focus();
  }

  start() {
    if (this.#session) return;
    const { tty, command, subprotocol } = this.#form;
    const isTerminal = Boolean(tty?.checked);
    const query = new URLSearchParams({ container: "main", stdin: "true", stdout: "true" });
    query.set(isTerminal ? "tty" : "stderr", "true");
    for (const word of words(command?.value ?? "")) query.append("command", word);

    this.#stdout.reset();
    this.#stdout.isPlain = !isTerminal;
    this.#stderr?.reset();
    this.#showErrors(false);
    this.#say("connecting");
    this.#isTerminal = isTerminal;
    this.#session = new Channels(`${POD}/${this.#kind}`, query, subprotocol.value, {
      open: (name) => {
        this.#say(`connected: ${name}`, "open");
        this.#inputForm.hidden = isTerminal;
        this.#inputForm.end.hidden = !this.#session.hasHalfClose;
        if (isTerminal) {
          this.#session.resize(...this.#stdout.size);
          this.#stdout.focus();
        } else {
          this.#inputForm.line.focus();
        }
      },
      output: (channel, bytes) => {
        const session = this.#session;
        const screen = channel === STDERR ? this.#showErrors(true) : this.#stdout;
        screen.write(bytes, () => session.acknowledge(bytes.length));
      },
      end: (text, isGood) => {
        this.#session = undefined;
        this.#inputForm.hidden = true;
        this.#say(text, isGood ? "good" : "bad");
        this.#stdout.say(`${text} - Enter connects again`);
        this.#stdout.focus();
      },
    });
    this.#enable();
  }

  #type(text) {
    if (this.#session) this.#session.sendInput(new TextEncoder().encode(text));
    else if (text === "\r") this.start();
  }

  #showErrors(isShown) {
    const element = this.#screen("stderr");
    element.hidden = !isShown;
    element.previousElementSibling.hidden = !isShown;
    if (isShown && !this.#stderr) {
      this.#stderr = new Screen(element);
      this.#stderr.isPlain = true;
    }
    return this.#stderr;
  }

  #say(text, kind = "") {
    this.#state.textContent = text;
    this.#state.dataset.kind = kind;
    this.#enable();
  }

  #enable() {
    this.#form.start.disabled = Boolean(this.#session);
    this.#form.stop.disabled = !this.#session;
  }

  #buttons() {
    return [this.#form.stop, this.#form.start];
  }

  #screen(stream) {
    return this.#section.querySelector(`[data-stream=${stream}]`);
  }
}

// Splits a command into words, with the quotes and backslashes of a shell and nothing else of it.
function words(text) {
  const found = [];
  let word;
  for (const [part, single, double, escaped] of text.matchAll(
    /'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)|\s+|./gs,
  )) {
    if (/^\s/.test(part)) {
      if (word !== undefined) found.push(word);
      word = undefined;
    } else {
      const piece = single ?? double?.replace(/\\(["\\$`])/g, "$1") ?? escaped ?? part;
      word = (word ?? "") + piece;
    }
  }
  if (word !== undefined) found.push(word);
  return found;
}
