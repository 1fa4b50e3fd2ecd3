// A WebSocket with its end told as one text.

import { explain, offered, socketUrl } from "./server.js";

export class Socket {
  #path;
  #socket;
  #isOpen = false;
  #isLeft = false;

  // `on` has `open(subprotocol)`, `message(data)` with an ArrayBuffer or a text, and
  // `end(text, code)`, where the code is undefined unless it is the server that has ended it.
  constructor(path, subprotocols, on) {
    this.#path = path;
    this.#socket = new WebSocket(socketUrl(path), offered(subprotocols));
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => {
      this.#isOpen = true;
      on.open(this.#socket.protocol);
    };
    this.#socket.onmessage = ({ data }) => on.message(data);
    this.#socket.onclose = async (event) => on.end(...(await this.#end(event)));
  }

  get subprotocol() {
    return this.#socket.protocol;
  }

  send(data) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(data);
  }

  close() {
    this.#isLeft = true;
    this.#socket.close(1000);
  }

  async #end({ code, reason }) {
    if (this.#isLeft) return ["disconnected"];
    if (!this.#isOpen) return [await explain(this.#path)];
    const why = reason || names[code] || "the server ended the session";
    return [`${why} (close code ${code})`, code];
  }
}

const names = {
  1001: "the server is going away",
  1006: "the connection was lost",
  1011: "the server had an error",
};

export function toBase64(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}
