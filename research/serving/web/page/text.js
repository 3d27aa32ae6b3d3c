// The playground of a language model: the answer as it comes, underlined the more surely each piece was expected.
import { element, events, falling, percent } from "./api.js";

const NUMBERS = ["temperature", "top_p", "top_k", "seed", "max_tokens"];

export function textForm(form, model, attempt) {
  const answer = form.querySelector("#answer"), detail = form.querySelector("#detail"), stop = form.querySelector("#stop");
  const fields = form.elements;
  let messages = [], running = null, current = null;

  function clear() {
    running?.abort();
    messages = [];
    answer.replaceChildren();
    detail.textContent = "";
  }

  function request() {
    const numbers = NUMBERS.filter((name) => fields[name].value !== "").map((name) => [name, Number(fields[name].value)]);
    const body = { model: model().name, stream: true, ...Object.fromEntries(numbers) };
    if (!fields.chat.checked) return ["v1/completions", { ...body, prompt: fields.prompt.value, logprobs: 5 }];
    messages.push({ role: "user", content: fields.prompt.value });
    return ["v1/chat/completions", { ...body, messages, logprobs: true, top_logprobs: 5 }];
  }

  async function generate() {
    if (!fields.chat.checked) clear();
    const [path, body] = request(), start = performance.now();
    const prompt = element("p", fields.prompt.value, "prompt"), turn = element("p", "");
    answer.append(prompt, turn);
    running = new AbortController();
    stop.disabled = false;
    let pending = [], count = 0, name = "";
    try {
      for await (const event of events(path, body, running.signal)) {
        const piece = pieceOf(event.choices[0]);
        name = event.model;
        count += piece.tokens.length;
        pending.push(...piece.tokens); // of a character in several tokens only the last brings text
        if (piece.text) turn.append(span(piece.text, pending)), (pending = []);
      }
    } finally {
      stop.disabled = true;
      if (fields.chat.checked && turn.textContent) {
        messages.push({ role: "assistant", content: turn.textContent });
        fields.prompt.value = "";
      } else if (!turn.textContent) {
        messages.pop();
        prompt.remove();
      }
    }
    detail.textContent = `${count} tokens in ${((performance.now() - start) / 1000).toFixed(1)} s, by ${name}`;
  }

  function point(span) {
    current?.classList.remove("current");
    current = span;
    span.classList.add("current");
    detail.textContent = span.dataset.about;
  }

  answer.addEventListener("mouseover", ({ target }) => target.dataset.about && point(target));
  answer.addEventListener("keydown", (event) => {
    const spans = [...answer.querySelectorAll("span")], step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !spans.length) return;
    event.preventDefault();
    point(spans[Math.max(0, Math.min(spans.length - 1, spans.indexOf(current) + step))]);
  });
  form.addEventListener("submit", () => stop.disabled && attempt(generate));
  form.addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
  stop.addEventListener("click", () => running.abort());
  form.querySelector("#clear").addEventListener("click", clear);
  fields.chat.addEventListener("change", clear);
  return {
    opened(card) {
      form.querySelector("#chat").hidden = !card.chat;
      fields.chat.checked = card.chat;
      clear();
    },
  };
}

// A choice of either API -> its text, and its tokens with their alternatives.
function pieceOf({ text, delta, logprobs }) {
  if (!delta) {
    const tops = logprobs?.top_logprobs ?? [];
    const tokens = tops.map((top, i) => ({ token: logprobs.tokens[i], logprob: logprobs.token_logprobs[i], top: falling(top) }));
    return { text, tokens };
  }
  const tokens = (logprobs?.content ?? []).map((each) => ({ ...each, top: each.top_logprobs.map((t) => [t.token, t.logprob]) }));
  return { text: delta.content ?? "", tokens };
}

function span(text, tokens) {
  const made = element("span", text);
  const p = Math.exp(tokens.reduce((sum, each) => sum + each.logprob, 0));
  made.style.setProperty("--sure", `${100 * p}%`);
  made.dataset.about = tokens.map(({ token, logprob, top }) => {
    const others = top.map(([word, l]) => `${JSON.stringify(word)} ${percent(Math.exp(l))}`).join("  ");
    return `${JSON.stringify(token)} ${percent(Math.exp(logprob))}; most probable: ${others}`;
  }).join("\n");
  return made;
}
