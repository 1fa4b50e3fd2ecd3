// A session of exec or attach: Kubernetes' channels in a WebSocket.

import { Socket, fromBase64, toBase64 } from "./socket.js";

export const STDIN = 0;
export const STDOUT = 1;
export const STDERR = 2;
const ERROR = 3;
const RESIZE = 4;
// An extension of this server: src/acknowledge.rs. Browsers cannot stop reading a WebSocket.
const ACKNOWLEDGE = 5;
const CLOSE = 255;

const V5 = "v5.channel.k8s.io";
// In this order: the server takes the first that it knows.
const SUBPROTOCOLS = [V5, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"];

// The payload of one message, as kubectl sends it.
const PIECE = 32 * 1024;
// The bytes that are shown before the server learns of them. It is a fraction of the server's
// window, so that output keeps flowing, and much more than the echo of a key.
const SHOWN = 32 * 1024;

export class Channels {
  #socket;
  #isBase64;
  #status;
  #shown = 0;

  // `on` has `open(subprotocol)`, `output(channel, bytes)`, and `end(text, isGood)`.
  constructor(path, query, subprotocol, on) {
    query.set("acknowledge", "true");
    this.#socket = new Socket(`${path}?${query}`, subprotocol ? [subprotocol] : SUBPROTOCOLS, {
      open: (subprotocol) => {
        this.#isBase64 = subprotocol.includes("base64");
        on.open(subprotocol);
      },
      message: (data) => {
        const [channel, bytes] = this.#decode(data);
        if (bytes.length === 0) return;
        if (channel === ERROR) this.#status = outcome(new TextDecoder().decode(bytes));
        else on.output(channel, bytes);
      },
      end: (text, code) => {
        // Subprotocols before v4 tell failures only.
        const untold = code === 1000 ? ["exit code 0", true] : [text, false];
        on.end(...(this.#status ?? untold));
      },
    });
  }

  // Whether the input can end without the session.
  get hasHalfClose() {
    return this.#socket.subprotocol === V5;
  }

  sendInput(bytes) {
    for (let at = 0; at < bytes.length; at += PIECE) {
      this.#send(STDIN, bytes.subarray(at, at + PIECE));
    }
  }

  endInput() {
    this.#socket.send(Uint8Array.of(CLOSE, STDIN));
  }

  resize(columns, rows) {
    this.#send(RESIZE, new TextEncoder().encode(JSON.stringify({ Width: columns, Height: rows })));
  }

  // Tells the server that so many bytes of output are on the screen.
  acknowledge(length) {
    this.#shown += length;
    if (this.#shown < SHOWN) return;
    const count = new DataView(new ArrayBuffer(4));
    count.setUint32(0, this.#shown);
    this.#shown = 0;
    this.#send(ACKNOWLEDGE, new Uint8Array(count.buffer));
  }

  close() {
    this.#socket.close();
  }

  #send(channel, bytes) {
    if (this.#isBase64) {
      this.#socket.send(`${channel}${toBase64(bytes)}`);
    } else {
      const message = new Uint8Array(1 + bytes.length);
      message[0] = channel;
      message.set(bytes, 1);
      this.#socket.send(message);
    }
  }

  #decode(data) {
    if (typeof data === "string") return [Number(data[0]), fromBase64(data.slice(1))];
    const bytes = new Uint8Array(data);
    return [bytes[0], bytes.subarray(1)];
  }
}

// Returns what a Status says, and whether it is good. Before v4 it is a plain text.
function outcome(text) {
  let status;
  try {
    status = JSON.parse(text);
  } catch {
    return [text, false];
  }
  if (status.status === "Success") return ["exit code 0", true];
  const code = status.details?.causes?.find((cause) => cause.reason === "ExitCode");
  return [code ? `exit code ${code.message}` : status.message, false];
}
