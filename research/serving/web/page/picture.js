// A canvas to draw on, light on dark as handwritten digits are stored, or a file, which is sent as it is.
import { percent } from "./api.js";

const SIDE = 280;

export function pictureForm(form, attempt) {
  const canvas = form.querySelector("canvas"), map = form.querySelector(".map"), status = form.querySelector(".detail"), input = form.querySelector("input"), pen = canvas.getContext("2d");
  let file = null;

  function wipe() {
    [file, input.value, canvas.width, canvas.height] = [null, "", SIDE, SIDE];
    pen.fillRect(0, 0, SIDE, SIDE);
    uncover();
    form.querySelector(".result").replaceChildren();
  }

  function uncover() {
    map.hidden = true;
    status.textContent = "";
  }

  // Red where the class would lose without a pixel, blue where it would gain; the more, the less of the picture is seen.
  function cover({ pixels, probability, class: name }) {
    const most = Math.max(...pixels.flat().map(Math.abs)) || 1, shades = map.getContext("2d");
    [map.width, map.height] = [pixels[0].length, pixels.length];
    pixels.forEach((row, y) => row.forEach((fall, x) => {
      shades.fillStyle = `rgb(${fall > 0 ? "214 64 50" : "60 110 210"} / ${0.75 * Math.abs(fall) / most})`;
      shades.fillRect(x, y, 1, 1);
    }));
    Object.assign(map.style, { width: `${canvas.width}px`, height: `${canvas.height}px` });
    map.hidden = false;
    status.textContent = `Red pixels speak for ${name}, blue ones against it: covered, it loses up to ${percent(Math.max(0, ...pixels.flat()))} of its ${percent(probability)}.`;
  }

  async function take(chosen) {
    const picture = await createImageBitmap(chosen), scale = SIDE / Math.max(picture.width, picture.height);
    uncover();
    [canvas.width, canvas.height] = [picture.width * scale, picture.height * scale];
    pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
    file = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result.split(",")[1]);
      reader.readAsDataURL(chosen);
    });
    form.requestSubmit();
  }

  function draw({ offsetX, offsetY }) {
    pen.lineTo(offsetX, offsetY);
    pen.stroke();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (file) wipe();
    uncover();
    canvas.setPointerCapture(event.pointerId);
    Object.assign(pen, { strokeStyle: "white", lineWidth: SIDE / 12, lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    draw(event);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && draw(event));
  canvas.addEventListener("pointerup", () => form.requestSubmit());
  form.addEventListener("dragover", (event) => event.preventDefault());
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) attempt(() => take(event.dataTransfer.files[0]));
  });
  input.addEventListener("change", () => input.files.length && attempt(() => take(input.files[0])));
  form.querySelector("#wipe").addEventListener("click", wipe);
  wipe();
  return { value: () => ({ image: file ?? canvas.toDataURL("image/png") }), cover, uncover };
}
