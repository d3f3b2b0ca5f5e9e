// Boxes and masks over an image, on the page and in a file.

const COLOURS = ["#2563eb", "#d92d20", "#15803d", "#b45309", "#7c3aed", "#0e7490", "#be185d", "#4d7c0f"];
const MASK = 0.45; // opacity
const MANY = 8; // objects; of more, only the one that is pointed at shows its label

/** A colour for each object, by its name: the same in other images, unless another name there has it, too. */
export function coloursOf(objects) {
  const chosen = new Map();
  for (const name of [...new Set(objects.map((each) => each.name))].sort()) {
    const start = [...name].reduce((sum, letter) => (31 * sum + letter.codePointAt(0)) % 65521, 0);
    const order = COLOURS.map((_, i) => COLOURS[(start + i) % COLOURS.length]);
    const taken = [...chosen.values()];
    chosen.set(name, order.find((colour) => !taken.includes(colour)) ?? order[0]);
  }
  return objects.map((each) => chosen.get(each.name));
}

/** A confidence for people to read; neither 0 nor 100, since no fit knows that. */
export function percent(confidence) {
  return confidence === null ? "" : `${Math.min(Math.max(Math.round(confidence * 100), 1), 99)}\u00a0%`;
}

export function labelOf(object) {
  return [object.label || object.name, percent(object.confidence)].filter(Boolean).join(" ");
}

/** Fill a layer over an image with its objects. Returns an element for each, in their order. */
export function fill(layer, image, objects) {
  const colours = coloursOf(objects);
  const masks = objects.map((each, i) => each.mask && maskOf(each.mask, colours[i]));
  const boxes = objects.map((each, i) => {
    const [top, left, bottom, right] = each.box;
    const box = document.createElement("div");
    box.className = "box";
    box.style.setProperty("--colour", colours[i]);
    box.style.top = `${(100 * top) / image.height}%`;
    box.style.left = `${(100 * left) / image.width}%`;
    box.style.height = `${(100 * (bottom - top)) / image.height}%`;
    box.style.width = `${(100 * (right - left)) / image.width}%`;
    const label = document.createElement("span");
    label.textContent = labelOf(each);
    label.classList.toggle("inside", top < image.height * 0.08);
    label.classList.toggle("left", left > image.width * 0.6);
    if (label.textContent) box.append(label);
    return box;
  });
  layer.classList.toggle("many", objects.length > MANY);
  layer.replaceChildren(...masks.filter(Boolean), ...boxes);
  return boxes.map((box, i) => [box, masks[i]].filter(Boolean));
}

/** Lay the words of a page over its image as text that can be selected, as PDF.js does. */
export function fillText(layer, image, lines) {
  const context = document.createElement("canvas").getContext("2d");
  const text = document.createElement("div");
  text.className = "words";
  for (const line of lines) {
    for (const word of line.words) {
      const [top, left, bottom, right] = word.box;
      const high = (bottom - top) / image.height;
      const span = document.createElement("span");
      span.textContent = `${word.text} `;
      span.title = word.confidence === null ? word.text : `${word.text}: ${percent(word.confidence)}`;
      context.font = `${bottom - top}px sans-serif`;
      span.style.top = `${(100 * top) / image.height}%`;
      span.style.left = `${(100 * left) / image.width}%`;
      span.style.fontSize = `${100 * high}cqh`;
      span.style.transform = `scaleX(${(right - left) / context.measureText(word.text).width})`;
      text.append(span);
    }
    text.append(document.createElement("br"));
  }
  layer.replaceChildren(text);
}

/** COCO's run lengths, down the columns, as a canvas. */
function maskOf({ size: [height, width], counts }, colour) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  let at = 0;
  counts.forEach((count, run) => {
    for (const end = at + count; at < end; at++) {
      if (run % 2) pixels.data.set([red, green, blue, 255], 4 * ((at % height) * width + Math.floor(at / height)));
    }
  });
  context.putImageData(pixels, 0, 0);
  canvas.className = "mask";
  canvas.style.opacity = MASK;
  return canvas;
}

/** The image with its objects, as a PNG file. */
export async function draw(image, objects) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  const picture = new Image();
  picture.src = image.url;
  await picture.decode();
  context.drawImage(picture, 0, 0);
  const colours = coloursOf(objects);
  context.globalAlpha = MASK;
  objects.forEach((each, i) => each.mask && context.drawImage(maskOf(each.mask, colours[i]), 0, 0));
  context.globalAlpha = 1;
  const unit = Math.max(1, Math.min(image.width, image.height) / 300);
  context.lineWidth = 2 * unit;
  context.font = `600 ${11 * unit}px system-ui, sans-serif`;
  objects.forEach((each, i) => {
    const [top, left, bottom, right] = each.box;
    context.strokeStyle = context.fillStyle = colours[i];
    context.strokeRect(left, top, right - left, bottom - top);
    const label = labelOf(each);
    if (!label) return;
    const width = context.measureText(label).width + 8 * unit;
    const x = Math.max(0, Math.min(left, image.width - width));
    const y = top < 16 * unit ? top : top - 16 * unit;
    context.fillRect(x, y, width, 16 * unit);
    context.fillStyle = "#fff";
    context.fillText(label, x + 4 * unit, y + 12 * unit);
  });
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}
