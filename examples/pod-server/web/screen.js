// A screen for output, and a keyboard for input.

/* global Terminal, FitAddon */

const DARK = {
  background: "#16181d",
  foreground: "#d7dae0",
  cursor: "#d7dae0",
  selectionBackground: "#3b4252",
};
// The colours of xterm.js are made for a dark ground.
const LIGHT = {
  background: "#ffffff",
  foreground: "#1f2328",
  cursor: "#1f2328",
  selectionBackground: "#b6d6fd",
  black: "#24292f",
  red: "#b3202c",
  green: "#0f6b32",
  yellow: "#7a5200",
  blue: "#0550ae",
  magenta: "#7d3cbd",
  cyan: "#116a75",
  white: "#57606a",
  brightBlack: "#57606a",
  brightRed: "#cf222e",
  brightGreen: "#1a7f37",
  brightYellow: "#8a5a00",
  brightBlue: "#0969da",
  brightMagenta: "#8250df",
  brightCyan: "#1b7c83",
  brightWhite: "#24292f",
};

const dark = matchMedia("(prefers-color-scheme: dark)");

export class Screen {
  #terminal;
  #fit = new FitAddon.FitAddon();

  // `on`, if there is input, has `input(text)`, `size(columns, rows)` and `leave()`.
  constructor(element, on) {
    const style = getComputedStyle(element);
    this.#terminal = new Terminal({
      fontFamily: style.fontFamily,
      fontSize: Number.parseFloat(style.fontSize),
      scrollback: 5000,
      disableStdin: !on,
      cursorBlink: Boolean(on),
      cursorInactiveStyle: on ? "outline" : "none",
      minimumContrastRatio: 4.5,
      theme: dark.matches ? DARK : LIGHT,
    });
    dark.addEventListener("change", () => {
      this.#terminal.options.theme = dark.matches ? DARK : LIGHT;
    });
    this.#terminal.loadAddon(this.#fit);
    this.#terminal.open(element);
    this.#fit.fit();
    new ResizeObserver(() => this.#fit.fit()).observe(element);
    if (on) {
      this.#terminal.onData(on.input);
      this.#terminal.onResize(({ cols, rows }) => on.size(cols, rows));
      // Tab belongs to the shell, so another key leads on.
      this.#terminal.attachCustomKeyEventHandler((event) => {
        const leaves = event.ctrlKey && event.key === "F6";
        if (leaves && event.type === "keydown") on.leave();
        return !leaves;
      });
    }
  }

  // Without a terminal at the other end, a line feed is the end of a line.
  set isPlain(isPlain) {
    this.#terminal.options.convertEol = isPlain;
  }

  get size() {
    return [this.#terminal.cols, this.#terminal.rows];
  }

  // Calls `shown` once the bytes are on the screen. Between pieces the page has time for its user.
  write(bytes, shown) {
    this.#terminal.write(bytes, shown);
  }

  // Writes a line of the page itself.
  say(text) {
    this.#terminal.write(`\r\n\x1b[0;2m[${text}]\x1b[0m\r\n`);
  }

  reset() {
    this.#terminal.reset();
  }

  focus() {
    this.#terminal.focus();
  }
}
