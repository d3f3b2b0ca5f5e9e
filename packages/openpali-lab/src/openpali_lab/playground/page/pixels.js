// Images as pixels {width, height, data}: RGB, 8 bits, resized as torch and Pillow do, which the models were trained with.

import { round } from "./strings.js";

const GREY = 128; // beside an image that keeps its proportions

/** The pixels of an image file; what is transparent becomes white. */
export async function decode(blob) {
  const image = await createImageBitmap(blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  const { width, height } = image;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  image.close();
  const { data: rgba } = context.getImageData(0, 0, width, height);
  const data = new Uint8Array(3 * width * height);
  for (let i = 0, at = 0; i < rgba.length; i += 4) {
    data[at++] = rgba[i];
    data[at++] = rgba[i + 1];
    data[at++] = rgba[i + 2];
  }
  return { width, height, data };
}

/** An image as a model sees it: squashed to its size, or scaled until it fits, with grey beside it. */
export function preprocess(image, { height, width, policy }) {
  if (policy === "squash") return resize(image, width, height);
  const scale = Math.min(height / image.height, width / image.width);
  const small = resize(image, ...[image.width, image.height].map((side) => Math.max(1, round(side * scale))));
  if (small.width === width && small.height === height) return small;
  const data = new Uint8Array(3 * width * height).fill(GREY);
  for (let row = 0; row < small.height; row++) {
    data.set(small.data.subarray(3 * row * small.width, 3 * (row + 1) * small.width), 3 * row * width);
  }
  return { width, height, data };
}

/** torch's bilinear resizing with antialiasing of 8-bit images: weights of 16 bits, across and then down. */
export function resize(image, width, height) {
  const across = width === image.width ? image : pass(image, width, image.height, 3, image.width * 3, width * 3, false);
  return height === image.height ? across : pass(across, width, height, 3, width * 3, width * 3, true);
}

function pass(image, width, height, channels, stride, outStride, down) {
  const [from, to] = down ? [image.height, height] : [image.width, width];
  const windows = windowsOf(from, to);
  const most = Math.max(...windows.map(({ weights }) => Math.max(...weights)));
  let bits = 0;
  while (bits < 22 && Math.trunc(0.5 + most * 2 ** (bits + 1)) < 2 ** 15) bits++;
  const half = 2 ** (bits - 1);
  const data = new Uint8Array(height * outStride);
  windows.forEach(({ first, weights }, place) => {
    const whole = weights.map((weight) => Math.trunc(weight * 2 ** bits + 0.5));
    const lines = down ? width : image.height;
    for (let line = 0; line < lines; line++) {
      for (let channel = 0; channel < channels; channel++) {
        let value = half;
        let at = down ? first * stride + line * channels + channel : line * stride + first * channels + channel;
        const step = down ? stride : channels;
        for (const weight of whole) {
          value += weight * image.data[at];
          at += step;
        }
        const out = down ? place * outStride + line * channels + channel : line * outStride + place * channels + channel;
        data[out] = Math.min(255, Math.floor(value / 2 ** bits));
      }
    }
  });
  return { width, height, data };
}

/** Where each pixel of a side looks, and the weights there: a triangle, as wide as the pixels that become one. */
function windowsOf(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = scale * (place + 0.5);
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let at = first; at < last; at++) weights.push(Math.max(0, 1 - Math.abs((at - centre + 0.5) / support)));
    const all = weights.reduce((sum, each) => sum + each, 0);
    return { first, weights: weights.map((weight) => weight / all) };
  });
}

/** Pillow's bilinear resizing of numbers [height][width], which are float32. */
export function resizeNumbers(values, [height, width], [high, wide]) {
  const rows = new Float32Array(height * wide);
  windowsOf(width, wide).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++) {
      rows[y * wide + x] = weights.reduce((sum, each, i) => sum + each * values[y * width + first + i], 0);
    }
  });
  const found = new Float32Array(high * wide);
  windowsOf(height, high).forEach(({ first, weights }, y) => {
    for (let x = 0; x < wide; x++) {
      found[y * wide + x] = weights.reduce((sum, each, i) => sum + each * rows[(first + i) * wide + x], 0);
    }
  });
  return found;
}

/** A part of an image, enlarged, as Pillow's affine transformation: bilinear if it grows, else bicubic. */
export function view(image, { top, left, down, right }, width, height) {
  const clip = (value, side) => Math.min(Math.max(0, value), side - 1);
  const { data } = image;
  const corner = 3 * (clip(round(top), image.height) * image.width + clip(round(left), image.width));
  const colour = data.slice(corner, corner + 3);
  const found = new Uint8Array(3 * width * height);
  const [reach, mix] = down > 1 ? [2, linear] : [4, cubic];
  const values = new Float64Array(4);
  const column = new Float64Array(4);
  for (let y = 0, at = 0; y < height; y++) {
    const yIn = (1 / down) * (y + 0.5) + top;
    for (let x = 0; x < width; x++, at += 3) {
      const xIn = (1 / right) * (x + 0.5) + left;
      if (xIn < 0 || xIn >= image.width || yIn < 0 || yIn >= image.height) {
        found.set(colour, at);
        continue;
      }
      const [xHalf, yHalf] = [xIn - 0.5, yIn - 0.5];
      const [xWhole, yWhole] = [Math.floor(xHalf), Math.floor(yHalf)];
      const [xFirst, yFirst] = [xWhole - reach / 2 + 1, yWhole - reach / 2 + 1];
      for (let channel = 0; channel < 3; channel++) {
        for (let i = 0; i < reach; i++) {
          const row = yFirst + i;
          if (i && (row < 0 || row >= image.height)) {
            column[i] = column[i - 1];
            continue;
          }
          for (let j = 0; j < reach; j++) {
            values[j] = data[3 * (clip(row, image.height) * image.width + clip(xFirst + j, image.width)) + channel];
          }
          column[i] = mix(values, xHalf - xWhole);
        }
        found[at + channel] = Math.trunc(Math.min(Math.max(mix(column, yHalf - yWhole), 0), 255));
      }
    }
  }
  return { width, height, data: found };
}

function linear(values, share) {
  return values[0] + (values[1] - values[0]) * share;
}

function cubic(values, share) {
  const [a, b, c, d] = [values[0], values[1], values[2], values[3]];
  return b + share * (-a + c + share * (2 * (a - b) + c - d + share * (-a + b - c + d)));
}

/** Pixels of images of one size as a model takes them: -1 to 1. */
export function scaled(images) {
  const size = images[0].data.length;
  const found = new Float32Array(images.length * size);
  images.forEach(({ data }, i) => {
    for (let at = 0; at < size; at++) found[i * size + at] = Math.fround(data[at] / 127.5) - 1;
  });
  return found;
}
