// Chooses the form that the model takes: text, a picture, or any value. Answers are set as text, never as HTML.
import { answered, api, token } from "./api.js";
import { pictureForm } from "./picture.js";
import { textForm } from "./text.js";

const byId = (id) => document.getElementById(id);
const select = byId("model"), forms = { text: byId("text"), picture: byId("picture"), values: byId("values") };
let cards = [];

const model = () => ({ ...cards.find((card) => card.id === select.value.split("@")[0]), name: select.value });
const kind = (card) => (card.generates ? "text" : card.inputs.image?.shape.length === 4 ? "picture" : "values");

async function attempt(work) {
  byId("error").textContent = "";
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("error").textContent = error.message;
    if (error.status === 401) byId("token").hidden = false;
  }
}

function show() {
  for (const name in forms) forms[name].hidden = !cards.length || name !== kind(model());
  if (!cards.length) return;
  byId("explain").hidden = !model().explains;
  picture.uncover();
  if (model().generates) text.opened(model());
}

async function list() {
  cards = (await api("v1/models")).data;
  const names = cards.flatMap((card) => (card.versions.length < 2 ? [card.id] : [card.id, ...card.versions.map((n) => `${card.id}@${n}`)]));
  select.replaceChildren(...names.map((name) => new Option(name)));
  show();
}

async function predict(form, value) {
  const { outputs, model: name } = await api("v1/predict", { model: model().name, inputs: [value] });
  form.querySelector(".result").replaceChildren(...answered(outputs[0], name));
}

const text = textForm(forms.text, model, attempt);
const picture = pictureForm(forms.picture, attempt);
forms.picture.addEventListener("submit", () => attempt(() => predict(forms.picture, picture.value())));
byId("explain").addEventListener("click", () => attempt(async () => {
  picture.cover(await api("v1/explain", { model: model().name, input: picture.value() }));
}));
forms.values.addEventListener("submit", () => {
  const written = forms.values.elements.value.value;
  let value = written; // what is no JSON is a text
  try { value = JSON.parse(written); } catch {}
  attempt(() => predict(forms.values, value));
});
for (const form of Object.values(forms)) {
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}
select.addEventListener("change", show);
token.addEventListener("change", () => attempt(list));
attempt(list);
