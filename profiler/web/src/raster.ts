// Waits as pixels: for each column of a lane how much of its time belongs to which group.
//
// A wait may be far narrower than a pixel, and a million of them are drawn sixty times a second. So the
// time of each is added to the columns that it lies in, and the columns are painted, however many waits
// there are. For wide views each lane is divided into bins once, whose sums are added up instead.

import { firstAfter, type Lane, type Model } from "./model";

/** Bins of a lane. */
const BINS = 8_192;
/** Lanes with fewer waits are quick enough without. */
const BINNED = 10_000;

/** Shares of the time of each column, by group. */
export class Columns {
  width = 0;
  private sums = new Float32Array(0);

  constructor(private readonly groups: number) {}

  reset(width: number): void {
    this.width = width;
    const length = width * this.groups;
    if (this.sums.length < length) this.sums = new Float32Array(length);
    else this.sums.fill(0, 0, length);
  }

  /** Adds a stretch that is drawn with clear edges where it is wider than a column. */
  addClear(from: number, to: number, group: number): void {
    if (to - from < 1.5) this.add(from, to, group);
    else this.add(Math.round(from), Math.round(to), group);
  }

  /** Adds a stretch, in columns. */
  add(from: number, to: number, group: number): void {
    if (from < 0) from = 0;
    if (to > this.width) to = this.width;
    if (from >= to) return;
    const groups = this.groups;
    const first = Math.floor(from);
    const last = Math.floor(to);
    if (first === last) {
      this.sums[first * groups + group] += to - from;
      return;
    }
    this.sums[first * groups + group] += first + 1 - from;
    for (let column = first + 1; column < last; column++) this.sums[column * groups + group] += 1;
    if (last < this.width) this.sums[last * groups + group] += to - last;
  }

  share(column: number, group: number): number {
    return this.sums[column * this.groups + group];
  }
}

/** Draws the waits of lanes into columns. */
export class Raster {
  private bins = new Map<number, { generation: number; sums: Float32Array }>();

  constructor(private readonly model: Model) {}

  waits(lane: Lane, from: number, to: number, columns: Columns): void {
    const bin = this.model.end / BINS;
    if (lane.waits >= BINNED && (to - from) / bin >= columns.width) this.binned(lane, from, to, columns);
    else this.singly(lane, from, to, columns, true);
  }

  polls(lane: Lane, from: number, to: number, columns: Columns): void {
    const { polls, groupOfStack, groups, isPollMatch } = this.model;
    const scale = columns.width / (to - from);
    for (let at = firstAfter(polls.end, lane.firstPoll, lane.lastPoll, from); at < lane.lastPoll; at++) {
      if (polls.start[at] >= to) break;
      let group = this.model.isBlockedPoll(at) ? groupOfStack[polls.stack[at]] : groups.running;
      if (isPollMatch[at] === 0) group = groups.dimmed;
      columns.addClear((polls.start[at] - from) * scale, (polls.end[at] - from) * scale, group);
    }
  }

  private singly(lane: Lane, from: number, to: number, columns: Columns, isClear: boolean): void {
    const { waits, groupOfStack, groups, isMatch } = this.model;
    const { start, wakeup, end, stack } = waits;
    const scale = columns.width / (to - from);
    for (let at = firstAfter(end, lane.first, lane.last, from); at < lane.last; at++) {
      if (start[at] >= to) break;
      const group = isMatch[at] === 0 ? groups.dimmed : groupOfStack[stack[at]];
      const begin = (start[at] - from) * scale;
      const woken = (wakeup[at] - from) * scale;
      if (isClear) columns.addClear(begin, woken, group);
      else columns.add(begin, woken, group);
      if (end[at] > wakeup[at]) columns.add(woken, (end[at] - from) * scale, groups.runnable);
    }
  }

  private binned(lane: Lane, from: number, to: number, columns: Columns): void {
    const sums = this.binsOf(lane);
    const groups = this.model.groups.length;
    const bin = this.model.end / BINS;
    const scale = (columns.width / (to - from)) * bin;
    const first = Math.max(0, Math.floor(from / bin));
    const last = Math.min(BINS, Math.ceil(to / bin));
    for (let at = first; at < last; at++) {
      const left = (at * bin - from) * (scale / bin);
      for (let group = 0; group < groups; group++) {
        const share = sums[at * groups + group];
        // Less than a whole bin lies in its middle.
        if (share > 0) {
          const rest = ((1 - share) * scale) / 2;
          columns.add(left + rest, left + scale - rest, group);
        }
      }
    }
  }

  private binsOf(lane: Lane): Float32Array {
    const known = this.bins.get(lane.index);
    if (known && known.generation === this.model.generation) return known.sums;
    const columns = new Columns(this.model.groups.length);
    columns.reset(BINS);
    this.singly(lane, 0, this.model.end, columns, false);
    const groups = this.model.groups.length;
    const sums = known?.sums ?? new Float32Array(BINS * groups);
    for (let at = 0; at < BINS; at++) {
      for (let group = 0; group < groups; group++) sums[at * groups + group] = Math.min(1, columns.share(at, group));
    }
    this.bins.set(lane.index, { generation: this.model.generation, sums });
    return sums;
  }
}

/** Pixels of a canvas. */
export class Pixels {
  private image: ImageData | null = null;
  private words = new Uint32Array(0);

  reset(context: CanvasRenderingContext2D, width: number, height: number): void {
    if (this.image === null || this.image.width !== width || this.image.height !== height) {
      this.image = context.createImageData(width, height);
      this.words = new Uint32Array(this.image.data.buffer);
    } else {
      this.words.fill(0);
    }
  }

  /** Paints columns as stacked bars from the bottom up: what is there at all has a pixel. */
  bars(columns: Columns, top: number, height: number, order: readonly number[], colors: Uint32Array): void {
    const image = this.image;
    if (image === null) return;
    const { width } = image;
    const last = Math.min(columns.width, width);
    for (let column = 0; column < last; column++) {
      let bottom = height;
      let filled = 0;
      for (const group of order) {
        const share = columns.share(column, group);
        if (share <= 0) continue;
        filled += share;
        const until = Math.min(bottom - 1, Math.round(height * (1 - filled)));
        const color = colors[group];
        for (let row = bottom - 1; row >= Math.max(0, until); row--) {
          const y = top + row;
          if (y >= 0 && y < image.height) this.words[y * width + column] = color;
        }
        bottom = Math.max(0, until);
        if (bottom === 0) break;
      }
    }
  }

  put(context: CanvasRenderingContext2D): void {
    if (this.image !== null) context.putImageData(this.image, 0, 0);
  }
}
