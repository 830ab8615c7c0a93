// The timeline: for each runtime when no task could run, and its workers by time.

import { Canvas, type Theme } from "./dom";
import { duration, instant } from "./format";
import { firstAfter, type Lane, type Model } from "./model";
import { Columns, Pixels, Raster } from "./raster";
import { type Starved } from "./stalls";
import type { Selection, Span, Store } from "./view";

export type Row =
  | { kind: "runtime"; runtime: number; top: number; height: number }
  | { kind: "others"; count: number; isOpen: boolean; top: number; height: number }
  | { kind: "lane"; lane: Lane; top: number; height: number };

export const LANE = 32;
const HEAD = 24;
const POLLS = { top: 3, height: 5 };
const WAITS = { top: 10, height: 20 };
/** A name is written on a wait that is at least this wide. */
const LABELLED = 40;

/** Rows from the top down. */
export function rowsOf(model: Model, others: boolean): Row[] {
  const rows: Row[] = [];
  let top = 0;
  const push = (row: { kind: "runtime"; runtime: number } | { kind: "others"; count: number; isOpen: boolean } | { kind: "lane"; lane: Lane }, height: number) => {
    rows.push({ ...row, top, height } as Row);
    top += height;
  };
  model.names.runtimes.forEach((_, runtime) => {
    const workers = model.lanes.filter((lane) => lane.worker && lane.runtime === runtime);
    if (workers.length === 0) return;
    push({ kind: "runtime", runtime }, HEAD);
    for (const lane of workers) push({ kind: "lane", lane }, LANE);
  });
  const rest = model.lanes.filter((lane) => !lane.worker || lane.runtime === null);
  // Where there is no worker, they are all that there is to see.
  const isOpen = others || rows.length === 0;
  if (rest.length > 0) push({ kind: "others", count: rest.length, isOpen }, HEAD);
  if (isOpen) for (const lane of rest) push({ kind: "lane", lane }, LANE);
  return rows;
}

export class Timeline {
  readonly canvas: Canvas;
  rows: Row[] = [];
  /** What is scrolled away at the top. */
  scrolled = 0;
  starved: Starved[] = [];
  hover: Selection | null = null;
  /** A range that is being drawn. */
  dragged: Span | null = null;
  private readonly raster: Raster;
  private readonly columns: Columns;
  private readonly pixels = new Pixels();

  constructor(
    private readonly model: Model,
    private readonly store: Store,
    private readonly theme: Theme,
    canvas: Canvas,
  ) {
    this.canvas = canvas;
    this.raster = new Raster(model);
    this.columns = new Columns(model.groups.length);
  }

  get height(): number {
    const last = this.rows.at(-1);
    return last ? last.top + last.height : HEAD;
  }

  x(time: number): number {
    const { from, to } = this.store.view.time;
    return ((time - from) / (to - from)) * this.canvas.width;
  }

  time(x: number): number {
    const { from, to } = this.store.view.time;
    return from + (x / this.canvas.width) * (to - from);
  }

  /** The order in which groups are stacked, from the bottom up. */
  private order(): number[] {
    const { groups } = this.model;
    const all = Array.from({ length: groups.length }, (_, group) => group);
    return [...all.filter((group) => group !== groups.runnable), groups.runnable];
  }

  draw(width: number, height: number): void {
    const { canvas, model, theme } = this;
    canvas.resize(width, height);
    const { context, scale } = canvas;
    const { from, to } = this.store.view.time;
    const colors = groupColors(model, theme);
    const order = this.order();
    this.pixels.reset(context, canvas.element.width, canvas.element.height);
    for (const row of this.visible()) {
      if (row.kind !== "lane") continue;
      const top = (row.top - this.scrolled) * scale;
      this.columns.reset(canvas.element.width);
      this.raster.waits(row.lane, from, to, this.columns);
      this.pixels.bars(this.columns, Math.round(top + WAITS.top * scale), Math.round(WAITS.height * scale), order, colors);
      if (row.lane.polls > 0) {
        this.columns.reset(canvas.element.width);
        this.raster.polls(row.lane, from, to, this.columns);
        this.pixels.bars(this.columns, Math.round(top + POLLS.top * scale), Math.round(POLLS.height * scale), order, colors);
      }
    }
    this.pixels.put(context);
    for (const row of this.visible()) this.overlay(row);
    this.range();
    this.selected();
  }

  private visible(): Row[] {
    const bottom = this.scrolled + this.canvas.height;
    return this.rows.filter((row) => row.top + row.height > this.scrolled && row.top < bottom);
  }

  private overlay(row: Row): void {
    const { context, width } = this.canvas;
    const top = row.top - this.scrolled;
    context.fillStyle = this.theme.color("line");
    if (row.kind === "lane") {
      context.fillRect(0, top + row.height - 1, width, 1);
      this.labels(row.lane, top);
      return;
    }
    context.fillRect(0, top, width, 1);
    if (row.kind === "runtime") this.halts(row.runtime, top);
  }

  /** Names of waits that have room for one. */
  private labels(lane: Lane, top: number): void {
    const { model, canvas, theme } = this;
    const { waits } = model;
    const { from, to } = this.store.view.time;
    const scale = canvas.width / (to - from);
    const { context } = canvas;
    const first = model.firstWait(lane, from);
    // More than these cannot all be wide.
    const limit = Math.min(lane.last, first + 4 * canvas.width);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillStyle = theme.color("on-fill");
    for (let at = first; at < limit && waits.start[at] < to; at++) {
      const left = Math.max(0, (waits.start[at] - from) * scale);
      const right = Math.min(canvas.width, (waits.wakeup[at] - from) * scale);
      if (right - left < LABELLED || model.isMatch[at] === 0) continue;
      const name = model.stack(waits.stack[at])?.name ?? "";
      const text = fit(context, shortName(name), right - left - 8);
      if (text !== "") context.fillText(text, left + 4, top + WAITS.top + WAITS.height / 2 + 1);
    }
  }

  /** The row of a runtime: when no task could run, and when nobody waited for events. */
  private halts(runtime: number, top: number): void {
    const { context, width } = this.canvas;
    const { from, to } = this.store.view.time;
    context.fillStyle = this.theme.color("no-driver");
    for (const { start_ns, length_ns } of this.model.names.runtimes[runtime].driver) {
      if (start_ns < to && start_ns + length_ns > from) {
        const left = this.x(start_ns);
        context.fillRect(left, top + 17, Math.max(1, this.x(start_ns + length_ns) - left), 3);
      }
    }
    const starved = this.starved[runtime];
    if (!starved) return;
    context.fillStyle = this.theme.color("starved");
    let drawn = -1;
    let at = firstAfter(starved.end, 0, starved.end.length, from);
    for (; at < starved.start.length && starved.start[at] < to; at++) {
      const left = Math.max(0, this.x(starved.start[at]));
      const right = Math.min(width, this.x(starved.end[at]));
      // Of those that are closer than a pixel, one is enough.
      if (right <= drawn) continue;
      const begin = Math.max(left, drawn);
      context.fillRect(begin, top + 6, Math.max(1, right - begin), 9);
      drawn = Math.max(right, begin + 1);
    }
  }

  private range(): void {
    const range = this.dragged ?? this.store.view.range;
    if (range === null) return;
    const { context, width, height } = this.canvas;
    const [left, right] = [this.x(range.from), this.x(range.to)];
    context.fillStyle = this.theme.color("veil");
    if (left > 0) context.fillRect(0, 0, Math.min(width, left), height);
    if (right < width) context.fillRect(Math.max(0, right), 0, width, height);
    context.fillStyle = this.theme.color("accent");
    for (const x of [left, right]) if (x >= 0 && x <= width) context.fillRect(x - 0.5, 0, 1, height);
  }

  /** Frames around what is selected and what is pointed at. */
  private selected(): void {
    for (const [selection, color] of [[this.hover, "dim"], [this.store.view.selection, "text"]] as const) {
      if (selection === null) continue;
      const box = this.box(selection);
      if (box === null) continue;
      const { context, width } = this.canvas;
      const left = Math.max(-2, box.left);
      const right = Math.min(width + 2, Math.max(box.right, box.left + 2));
      context.strokeStyle = this.theme.color(color);
      context.lineWidth = 2;
      context.strokeRect(left, box.top, right - left, box.height);
      if (selection === this.store.view.selection) {
        context.fillStyle = this.theme.color(color);
        const middle = (left + right) / 2;
        context.beginPath();
        context.moveTo(middle - 5, box.top - 8);
        context.lineTo(middle + 5, box.top - 8);
        context.lineTo(middle, box.top - 2);
        context.fill();
      }
    }
  }

  private box(selection: Selection): { left: number; right: number; top: number; height: number } | null {
    const { waits, polls } = this.model;
    const row = this.rowOf(selection);
    if (!row) return null;
    const top = row.top - this.scrolled;
    if (selection.kind === "stall") {
      return { left: this.x(selection.start), right: this.x(selection.end), top: top + 5, height: 11 };
    }
    const at = selection.index;
    if (selection.kind === "wait") {
      return { left: this.x(waits.start[at]), right: this.x(waits.end[at]), top: top + WAITS.top, height: WAITS.height };
    }
    return { left: this.x(polls.start[at]), right: this.x(polls.end[at]), top: top + POLLS.top - 1, height: POLLS.height + 2 };
  }

  rowOf(selection: Selection): Row | undefined {
    if (selection.kind === "stall") {
      return this.rows.find((row) => row.kind === "runtime" && row.runtime === selection.runtime);
    }
    const { model } = this;
    const lane = selection.kind === "wait" ? model.laneOfWait(selection.index) : model.laneOfPoll(selection.index);
    return this.rows.find((row) => row.kind === "lane" && row.lane === lane);
  }

  /** What lies at a point. A pixel holds many waits where they are short: the longest of them counts. */
  at(x: number, y: number): Selection | null {
    const position = y + this.scrolled;
    const row = this.rows.find((of) => position >= of.top && position < of.top + of.height);
    if (!row || row.kind === "others") return null;
    const [from, to] = [this.time(x - 1.5), this.time(x + 1.5)];
    if (row.kind === "runtime") return this.stallAt(row.runtime, from, to);
    const { model } = this;
    const { waits, polls } = model;
    if (position - row.top < WAITS.top - 1) {
      const index = model.firstPoll(row.lane, from);
      if (index < row.lane.lastPoll && polls.start[index] < to) return { kind: "poll", index };
    }
    let best = -1;
    for (let index = model.firstWait(row.lane, from); index < row.lane.last && waits.start[index] < to; index++) {
      const isLonger = best < 0 || waits.end[index] - waits.start[index] > waits.end[best] - waits.start[best];
      if (model.isMatch[index] === 1 && isLonger) best = index;
    }
    return best < 0 ? null : { kind: "wait", index: best };
  }

  private stallAt(runtime: number, from: number, to: number): Selection | null {
    const starved = this.starved[runtime];
    if (!starved) return null;
    let best = -1;
    for (let at = firstAfter(starved.end, 0, starved.end.length, from); at < starved.start.length && starved.start[at] < to; at++) {
      const isLonger = best < 0 || starved.end[at] - starved.start[at] > starved.end[best] - starved.start[best];
      if (isLonger) best = at;
    }
    return best < 0 ? null : { kind: "stall", runtime, start: starved.start[best], end: starved.end[best] };
  }

  /** What the pointer is told. */
  tip(selection: Selection): string {
    const { waits, polls } = this.model;
    if (selection.kind === "stall") return `no task could run for ${duration(selection.end - selection.start)}`;
    const at = selection.index;
    if (selection.kind === "poll") {
      const stack = this.model.stack(polls.stack[at]);
      return `long poll of ${duration(polls.end[at] - polls.start[at])}: ${stack?.task ?? stack?.name ?? "a task"}`;
    }
    const stack = this.model.stack(waits.stack[at]);
    const group = this.model.groupName(this.model.groupOfStack[waits.stack[at]]);
    return `${duration(waits.wakeup[at] - waits.start[at])} ${group}: ${stack?.name ?? "no stack"}`;
  }
}

/** The colours of the groups, as pixels. */
export function groupColors(model: Model, theme: Theme): Uint32Array {
  const { causes, states } = model.names;
  const names = [...causes.map((cause) => `c-${cause}`), ...states.map((state) => `s-${state}`), "dimmed"];
  return Uint32Array.from(names, (name) => theme.word(name));
}

/** `ledger::reserve` of `claims_api::ledger::reserve`. */
export function shortName(name: string): string {
  return name.split("::").slice(-2).join("::");
}

const widths = new Map<string, number>();

/** As much of a text as has room; of an average character nothing is measured twice. */
export function fit(context: CanvasRenderingContext2D, text: string, room: number): string {
  const key = context.font;
  let width = widths.get(key);
  if (width === undefined) {
    width = context.measureText("abcdefghijklmnopqrstuvwxyz_:").width / 28;
    widths.set(key, width);
  }
  const letters = Math.floor(room / (width * 1.06));
  if (letters >= text.length) return text;
  return letters < 4 ? "" : `${text.slice(0, letters - 1)}…`;
}

/** Steps of a ruler: instants that are round, about `wanted` pixels apart. */
export function ticks(time: Span, width: number, wanted: number): { at: number; text: string }[] {
  const least = ((time.to - time.from) / Math.max(1, width)) * wanted;
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  const step = [1, 2, 5, 10].map((of) => of * power).find((of) => of >= least) ?? 10 * power;
  const found = [];
  for (let at = Math.ceil(time.from / step) * step; at <= time.to; at += step) {
    found.push({ at, text: instant(at, step) });
  }
  return found;
}
