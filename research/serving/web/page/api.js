// Calls of this server, and its answers as elements. Addresses are relative, so that a proxy may serve it below a path.
export const token = document.querySelector("#token input");

export async function send(path, body, signal) {
  const headers = token.value ? { Authorization: `Bearer ${token.value}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({ error: { message: `the server answered ${answer.status}` } }));
  throw Object.assign(new Error(error.message), { status: answer.status });
}

export const api = async (path, body) => (await send(path, body)).json();

// The objects of a stream of server-sent events, one a line.
export async function* events(path, body, signal) {
  const answer = await send(path, body, signal), decoder = new TextDecoder();
  let rest = "";
  for (const reader = answer.body.getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: {")) continue;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

export function element(tag, text, className = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}

// {name: number} -> pairs, the largest first: an object's own order puts names like "7" before others.
export const falling = (numbers) => Object.entries(numbers).sort((a, b) => b[1] - a[1]);

export const percent = (p) => `${(100 * p).toFixed(1)} %`;

// An output of /v1/predict: its probabilities as bars, everything else as JSON.
export function answered({ probabilities, ...rest }, name) {
  const bars = falling(probabilities ?? {}).map(([label, p]) => {
    const bar = element("div", label, "bar");
    bar.style.setProperty("--share", percent(p).replace(" ", ""));
    bar.append(element("b", percent(p)));
    return bar;
  });
  return [...bars, ...(bars.length ? [] : [element("pre", JSON.stringify(rest, null, 1))]), element("p", `by ${name}`, "detail")];
}
