// The order in which the lines of a page are read: an X-Y cut that keeps tables whole. Boxes are [ymin, xmin, ymax, xmax].

/** Indices of the boxes of lines in reading order: blocks, their rows, and the lines side by side in each. */
export function readingOrder(boxes, numbers) {
  if (!boxes.length) return [];
  const order = boxes.map((_, i) => i).sort((a, b) => compare(boxes[a], boxes[b]) || a - b);
  const height = median(boxes.map((box) => box[2] - box[0]));
  return new Cutter(boxes, height, numbers).blocks(order);
}

class Cutter {
  constructor(boxes, height, numbers) {
    Object.assign(this, { boxes, height, numbers });
  }

  blocks(some) {
    const rows = this.rows(some);
    if (rows.length > 1) {
      const { alley, gap } = this.numbers;
      const wide = alley * this.height;
      const columns = join(this.split(some, 1, wide), (left, right) => this.isTable(left, right));
      const bands = join(this.split(some, 0, gap * this.height), (above, below) => {
        const counts = [above, below, [...above, ...below]].map((part) => this.split(part, 1, wide).length);
        return new Set(counts).size === 1;
      });
      const [beside, below] = [this.widest(columns, 1), this.widest(bands, 0)];
      if (beside.gap || below.gap) {
        return (beside.gap >= below.gap ? beside : below).parts.flatMap((part) => this.blocks(part));
      }
    }
    const gaps = rows.slice(1).map((row, i) => this.gap(rows[i], row, 0));
    const usual = gaps.length ? median(gaps) : 0;
    const found = [];
    rows.forEach((row, i) => {
      if (!i || gaps[i - 1] > usual + this.numbers.break * this.height) found.push([]);
      found.at(-1).push(row);
    });
    return found;
  }

  /** Pixels between two parts. */
  gap(before, behind, axis) {
    const start = Math.min(...behind.map((i) => this.boxes[i][axis]));
    return start - Math.max(...before.map((i) => this.boxes[i][axis + 2]));
  }

  /** Parts with nothing between them for some pixels: bands (axis 0) or columns (1). */
  split(some, axis, least) {
    const order = [...some].sort((a, b) => this.boxes[a][axis] - this.boxes[b][axis]);
    const parts = [];
    let end = -Infinity;
    for (const i of order) {
      if (!parts.length || this.boxes[i][axis] - end >= least) parts.push([]);
      parts.at(-1).push(i);
      end = Math.max(end, this.boxes[i][axis + 2]);
    }
    return parts;
  }

  /** The widest gap between parts, and what is before and behind it; 0 if there is one part. */
  widest(parts, axis) {
    const gaps = parts.slice(1).map((part, i) => this.gap(parts[i], part, axis));
    const gap = gaps.length ? Math.max(...gaps, 0) : 0;
    const at = gaps.length ? 1 + gaps.indexOf(Math.max(...gaps)) : 1;
    return { gap, parts: [parts.slice(0, at).flat(), parts.slice(at).flat()] };
  }

  /** Whether two columns are of one table: lines beside each other, in one of them short and of one height. */
  isTable(left, right) {
    const { alike, cell, aligned } = this.numbers;
    const [few, many] = right.length < left.length ? [right, left] : [left, right];
    const sides = (part, axis) => part.map((i) => this.boxes[i][axis + 2] - this.boxes[i][axis]);
    const middles = (part) => part.map((i) => this.boxes[i][0] + this.boxes[i][2]);
    const [tall, wide] = [0, 1].map((axis) => [few, many].map((part) => sides(part, axis)));
    const others = middles(many);
    const near = middles(few).map((middle) => Math.min(...others.map((other) => Math.abs(middle - other))));
    const beside = near.filter((distance, i) => distance < tall[0][i] / 2).length / few.length;
    const same = tall.some((one) => Math.max(...one) <= alike * Math.min(...one));
    const short = wide.some((one, part) => median(one.map((side, i) => side / tall[part][i])) <= cell);
    return same && short && beside >= aligned;
  }

  /** Rows, each from left to right; in a row are lines whose middles are in the height of the first, nearly. */
  rows(some) {
    const middle = (i) => (this.boxes[i][0] + this.boxes[i][2]) / 2;
    const rows = [];
    let end = -Infinity;
    for (const i of [...some].sort((a, b) => middle(a) - middle(b))) {
      if (middle(i) > end) {
        rows.push([]);
        end = middle(i) + 0.4 * (this.boxes[i][2] - this.boxes[i][0]);
      }
      rows.at(-1).push(i);
    }
    return rows.map((row) => row.sort((a, b) => this.boxes[a][1] - this.boxes[b][1]));
  }
}

/** Parts, those that are alike the one before joined with it. */
function join(parts, alike) {
  const joined = parts.slice(0, 1);
  for (const part of parts.slice(1)) {
    if (alike(joined.at(-1), part)) joined[joined.length - 1] = [...joined.at(-1), ...part];
    else joined.push(part);
  }
  return joined;
}

function compare(one, other) {
  const at = one.findIndex((edge, i) => edge !== other[i]);
  return at < 0 ? 0 : one[at] - other[at];
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
