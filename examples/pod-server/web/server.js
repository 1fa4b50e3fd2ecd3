// The server that this page comes from: its addresses, and the token that it may want.

// Never in an address, nor in any storage: it is gone with the tab.
let token = "";

export function setToken(text) {
  token = text;
}

// A page cannot set headers of a WebSocket, so Kubernetes' API servers take the token from an
// entry among its subprotocols. At least one other has to be offered.
export function offered(subprotocols) {
  if (!token) return subprotocols;
  const text = btoa(bytes(token)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return [...subprotocols, `base64url.bearer.authorization.k8s.io.${text}`];
}

// Returns the UTF-8 of a text as a string of bytes, which both base64 and a header take.
function bytes(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

export function socketUrl(path) {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  return `${scheme}//${location.host}${path}`;
}

// Says why the server did not answer with what was asked for.
export class Refused extends Error {}

// Returns the JSON at a path.
export async function get(path) {
  const response = await ask(path);
  if (!response.ok) throw await refusal(response);
  return response.json();
}

// Says why no WebSocket came about, which browsers do not tell: the same request without an
// upgrade gets the same refusal as an answer.
export async function explain(path) {
  try {
    const response = await ask(path);
    // The answer to a request that only lacks an upgrade.
    if (response.ok || response.status === 426) {
      await response.body?.cancel();
      return "the connection failed, though the server is there: connect again";
    }
    return (await refusal(response)).message;
  } catch (error) {
    return error.message;
  }
}

async function ask(path) {
  const headers = token ? { Authorization: `Bearer ${bytes(token)}` } : {};
  try {
    return await fetch(path, { headers, cache: "no-store" });
  } catch {
    throw new Refused("the server cannot be reached");
  }
}

async function refusal(response) {
  const text = await response.text();
  let message;
  try {
    message = JSON.parse(text).message;
  } catch {
    // Something else stands between, such as a proxy.
  }
  message ??= `the server answered ${response.status}`;
  if (response.status === 401) {
    // Everyone on the way would read it. Loopback counts as secure.
    if (!isSecureContext) return new Refused("this page sends a token over https only");
    dispatchEvent(new CustomEvent("unauthorized", { detail: message }));
  }
  return new Refused(message);
}
