// Masks: 64 x 64 numbers of the mask codec become COCO's run lengths, down the columns of the image.

import { resizeNumbers } from "./pixels.js";
import { round } from "./strings.js";

/** The mask of numbers {values, side}, above 0 where the object is, in a box of an image: {size, counts}. */
export function paste({ values, side }, [ymin, xmin, ymax, xmax], size) {
  const [height, width] = size;
  const [top, bottom] = span(ymin, ymax, height);
  const [left, right] = span(xmin, xmax, width);
  const inside = resizeNumbers(values, [side, side], [bottom - top, right - left]);
  const counts = [];
  let [now, run] = [false, 0];
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      const within = y >= top && y < bottom && x >= left && x < right;
      const own = within && inside[(y - top) * (right - left) + x - left] > 0;
      if (own !== now) {
        counts.push(run);
        [now, run] = [own, 0];
      }
      run++;
    }
  }
  return { size: [height, width], counts: [...counts, run] };
}

/** The pixels between two edges: at least one of a side. */
function span(start, end, side) {
  const first = Math.min(Math.max(round(start), 0), side - 1);
  return [first, Math.min(Math.max(round(end), first + 1), side)];
}
