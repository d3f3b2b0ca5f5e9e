// Out-of-distribution images: those whose patch tokens are far from those of images like the training's.

export class Detector {
  /** `values` are the mean of features, their whitening, centres of images, and the limit, one after another. */
  constructor(values, { size, centres }) {
    let at = 0;
    const next = (count) => values.subarray(at, (at += count));
    this.mean = next(size);
    this.whiten = next(size * size);
    this.centres = Array.from({ length: centres }, () => next(size));
    [this.limit] = next(1);
  }

  /** The distance of an image from the nearest centre, in units of the limit; `patches` is a tensor [1, N, D]. */
  score({ data, dims: [, count, width] }) {
    const size = 2 * width;
    const whitened = new Float64Array(size);
    describe(data, count, width).forEach((feature, row) => {
      const value = feature - this.mean[row];
      for (let i = 0; i < size; i++) whitened[i] += value * this.whiten[row * size + i];
    });
    const far = this.centres.map((centre) => Math.hypot(...whitened.map((each, i) => each - centre[i])));
    return Math.min(...far) / this.limit;
  }
}

/** Mean of the patch tokens, and logarithm of their standard deviation. */
function describe(data, count, width) {
  const found = new Float64Array(2 * width);
  for (let i = 0; i < width; i++) {
    let [sum, squares] = [0, 0];
    for (let at = i; at < count * width; at += width) sum += data[at];
    const mean = sum / count;
    for (let at = i; at < count * width; at += width) squares += (data[at] - mean) ** 2;
    found[i] = mean;
    found[width + i] = Math.log(Math.sqrt(squares / count) + 1e-6);
  }
  return found;
}
