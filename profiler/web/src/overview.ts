// Above the timeline: all of the recording in little, and the CPU share and a ruler of what is in view.

import { Canvas, type Theme } from "./dom";
import { percent } from "./format";
import type { Model } from "./model";
import { Columns, Raster } from "./raster";
import { groupColors, ticks } from "./timeline";
import type { Starved } from "./stalls";
import type { Store } from "./view";

export const MINIMAP = 44;
export const CPU = 34;
export const RULER = 18;

/** CPU use by time, as shares of all CPUs. */
export interface CpuUse {
  start: number;
  end: number;
  share: number;
}

export function cpuUse(model: Model): CpuUse[] {
  const cpus = Math.max(1, model.names.cpus);
  return model.intervals
    .filter((interval) => interval.end > interval.start)
    .map(({ start, end, threads }) => {
      const running = threads.reduce((sum, thread) => sum + thread.running, 0);
      return { start, end, share: Math.min(1, running / ((end - start) * cpus)) };
    });
}

export class Overview {
  readonly minimap: Canvas;
  readonly head: Canvas;
  starved: Starved[] = [];
  private readonly raster: Raster;
  private readonly cpu: CpuUse[];
  /** The minimap without what is in view: it changes seldom. */
  private readonly kept: Canvas;
  private keptFor = "";

  constructor(
    private readonly model: Model,
    private readonly store: Store,
    private readonly theme: Theme,
    minimap: Canvas,
    head: Canvas,
  ) {
    this.minimap = minimap;
    this.head = head;
    this.kept = new Canvas({});
    this.raster = new Raster(model);
    this.cpu = cpuUse(model);
  }

  forget(): void {
    this.keptFor = "";
  }

  draw(width: number): void {
    this.drawMinimap(width);
    this.drawHead(width);
  }

  /** How many workers were blocked, and for what, over the whole recording. */
  private drawMinimap(width: number): void {
    const { minimap, model, theme } = this;
    minimap.resize(width, MINIMAP);
    const wanted = `${minimap.element.width} ${model.generation} ${this.starved.length}`;
    if (this.keptFor !== wanted) {
      this.keep(width);
      this.keptFor = wanted;
    }
    const { context } = minimap;
    context.drawImage(this.kept.element, 0, 0, minimap.width, minimap.height);
    const { time, range } = this.store.view;
    const x = (at: number) => (at / model.end) * minimap.width;
    context.fillStyle = theme.color("veil");
    context.fillRect(0, 0, x(time.from), MINIMAP);
    context.fillRect(x(time.to), 0, minimap.width - x(time.to), MINIMAP);
    context.fillStyle = theme.color("accent");
    if (range) context.fillRect(x(range.from), MINIMAP - 3, Math.max(2, x(range.to) - x(range.from)), 3);
    context.strokeStyle = theme.color("dim");
    context.lineWidth = 1;
    const left = Math.max(0.5, Math.round(x(time.from)) + 0.5);
    const right = Math.min(minimap.width - 0.5, Math.max(left + 2, Math.round(x(time.to)) - 0.5));
    context.strokeRect(left, 0.5, right - left, MINIMAP - 1);
  }

  private keep(width: number): void {
    const { kept, model, theme } = this;
    kept.resize(width, MINIMAP);
    const { context } = kept;
    const columns = new Columns(model.groups.length);
    columns.reset(kept.width);
    const workers = model.lanes.filter((lane) => lane.worker);
    for (const lane of workers) this.raster.waits(lane, 0, model.end, columns);
    const colors = groupColors(model, theme);
    const [top, bottom] = [7, MINIMAP];
    const unit = (bottom - top) / Math.max(1, workers.length);
    for (let column = 0; column < columns.width; column++) {
      let y = bottom;
      for (let group = 0; group < model.groups.length; group++) {
        const share = columns.share(column, group);
        if (share <= 0 || group === model.groups.runnable) continue;
        const height = Math.max(0.5, share * unit);
        context.fillStyle = css(colors[group]);
        context.fillRect(column, y - height, 1, height);
        y -= height;
      }
    }
    context.fillStyle = theme.color("starved");
    for (const { start, end } of this.starved) {
      let drawn = -1;
      for (let at = 0; at < start.length; at++) {
        const right = (end[at] / model.end) * kept.width;
        if (right <= drawn) continue;
        const left = Math.max(drawn, (start[at] / model.end) * kept.width);
        context.fillRect(left, 0, Math.max(1, right - left), 5);
        drawn = Math.max(right, left + 1);
      }
    }
  }

  private drawHead(width: number): void {
    const { head, theme } = this;
    head.resize(width, CPU + RULER);
    const { context } = head;
    const { time } = this.store.view;
    const x = (at: number) => ((at - time.from) / (time.to - time.from)) * head.width;
    context.fillStyle = theme.color("cpu");
    for (const { start, end, share } of this.cpu) {
      if (end <= time.from || start >= time.to) continue;
      const height = share > 0 ? Math.max(1, share * (CPU - 4)) : 0;
      // On whole pixels, so that neighbours meet without a seam.
      const left = Math.round(Math.max(0, x(start)));
      const right = Math.round(Math.min(head.width, x(end)));
      context.fillRect(left, CPU - height, Math.max(1, right - left), height);
    }
    context.fillStyle = theme.color("line");
    context.fillRect(0, CPU, head.width, 1);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (const { at, text } of ticks(time, head.width, 110)) {
      context.fillStyle = theme.color("line");
      context.fillRect(x(at), CPU, 1, RULER);
      context.fillStyle = theme.color("dim");
      context.fillText(text, x(at) + 4, CPU + RULER / 2 + 1);
    }
  }

  /** The CPU share at an instant. */
  cpuAt(time: number): string {
    const found = this.cpu.find(({ start, end }) => time >= start && time < end);
    return found ? `CPU ${percent(found.share)} of all CPUs` : "";
  }
}

function css(word: number): string {
  return `rgb(${word & 255} ${(word >> 8) & 255} ${(word >> 16) & 255})`;
}
