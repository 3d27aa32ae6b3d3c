// A canvas to draw on, light on dark as handwritten digits are stored, or a file, which is sent as it is.
const SIDE = 280;

export function pictureForm(form, attempt) {
  const canvas = form.querySelector("canvas"), input = form.querySelector("input"), pen = canvas.getContext("2d");
  let file = null;

  function wipe() {
    [file, input.value, canvas.width, canvas.height] = [null, "", SIDE, SIDE];
    pen.fillRect(0, 0, SIDE, SIDE);
    form.querySelector(".result").replaceChildren();
  }

  async function take(chosen) {
    const picture = await createImageBitmap(chosen), scale = SIDE / Math.max(picture.width, picture.height);
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
  return () => ({ image: file ?? canvas.toDataURL("image/png") });
}
