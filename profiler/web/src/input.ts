// Keys and pointer.

import type { Model } from "./model";
import { nextMatch } from "./search";
import type { Stall } from "./stalls";
import type { Timeline } from "./timeline";
import type { Selection, Store } from "./view";

/** What keys reach for. */
export interface Reach {
  model: Model;
  store: Store;
  timeline: Timeline;
  stalls(): readonly Stall[];
  spanOf(selection: Selection | null): { from: number; to: number } | null;
  search: HTMLInputElement;
  canvas: HTMLCanvasElement;
  minimap: HTMLCanvasElement;
  hasLetters(): boolean;
  toggleHelp(): void;
  /** Draws at once what follows the pointer. */
  redraw(): void;
  tip(selection: Selection | null, x: number, y: number): void;
}

/** Of the view's length, in a second. */
const PAN = 1.2;
/** The exponent of the zoom, in a second. */
const ZOOM = 3.2;

export class Input {
  private held = new Set<string>();
  private last = 0;

  constructor(private readonly reach: Reach) {
    document.addEventListener("keydown", (event) => this.down(event));
    document.addEventListener("keyup", (event) => this.held.delete(event.key.toLowerCase()));
    window.addEventListener("blur", () => this.held.clear());
    this.pointer();
    this.onMinimap();
  }

  /** Goes to the next stall; worst first. */
  stall(step: number): void {
    const { store } = this.reach;
    const all = this.reach.stalls();
    if (all.length === 0) return;
    const at = this.stallAt();
    const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : (at + step + all.length) % all.length;
    const { selection, from, to } = all[next];
    store.set({ selection });
    store.reveal(from, to);
  }

  /** The place of what is selected among the stalls; -1 where it is none. */
  stallAt(): number {
    const { selection } = this.reach.store.view;
    if (selection === null) return -1;
    return this.reach.stalls().findIndex(({ selection: of }) => isSame(of, selection));
  }

  match(forward: boolean): void {
    const { model, store } = this.reach;
    const { selection, time } = store.view;
    const from = selection?.kind === "wait" ? selection.index : null;
    const found = nextMatch(model, from, forward ? time.from : time.to, forward);
    if (found !== null) this.select({ kind: "wait", index: found });
  }

  select(selection: Selection): void {
    const { store, model } = this.reach;
    if (selection.kind === "wait") {
      const lane = model.laneOfWait(selection.index);
      if (!lane.worker || lane.runtime === null) store.set({ others: true });
    }
    store.set({ selection });
    const span = this.reach.spanOf(selection);
    if (span) store.reveal(span.from, span.to);
  }

  private down(event: KeyboardEvent): void {
    const { target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { search, canvas } = this.reach;
    if (target === search && this.inSearch(event)) return;
    const isTyping = target instanceof HTMLInputElement || target instanceof HTMLSelectElement;
    if (isTyping || document.querySelector("dialog[open]") !== null) return;
    const isInTimeline = target === canvas;
    if (!isInTimeline && !this.reach.hasLetters() && event.key.length === 1) return;
    const isFree = isInTimeline || target === document.body || !(target instanceof HTMLElement);
    if (this.arrow(event.key, isFree, isInTimeline) || this.key(event.key, target)) event.preventDefault();
  }

  private inSearch(event: KeyboardEvent): boolean {
    if (event.key === "Enter") {
      // What was typed last may not have been looked for yet.
      const { store, search } = this.reach;
      store.set({ query: search.value });
      store.flush();
      this.match(!event.shiftKey);
    } else if (event.key === "Escape") {
      this.reach.store.set({ query: "" });
      this.reach.search.value = "";
      this.reach.canvas.focus();
    } else return false;
    event.preventDefault();
    return true;
  }

  private arrow(key: string, isFree: boolean, isInTimeline: boolean): boolean {
    if (key === "ArrowRight" && isFree) this.stall(1);
    else if (key === "ArrowLeft" && isFree) this.stall(-1);
    else if (key === "ArrowDown" && isInTimeline) this.lane(1);
    else if (key === "ArrowUp" && isInTimeline) this.lane(-1);
    else return false;
    return true;
  }

  private key(key: string, target: EventTarget | null): boolean {
    const { store, search } = this.reach;
    const lower = key.toLowerCase();
    if ("wasd".includes(lower) && lower.length === 1) this.hold(lower);
    else if (lower === "f") store.fit();
    else if (lower === "z") store.goBack();
    else if (key === "/") {
      search.focus();
      search.select();
    } else if (lower === "n") this.match(key === "n");
    else if (key === ".") this.step(1);
    else if (key === ",") this.step(-1);
    else if (lower === "r") store.set({ range: { ...store.view.time } });
    else if (key === "?") this.reach.toggleHelp();
    else if (key === "Escape") this.escape();
    else if (key === "Enter" && !(target instanceof HTMLElement && target.closest("button, a, summary, select"))) this.zoomToSelection();
    else return false;
    return true;
  }

  zoomToSelection(): void {
    const span = this.reach.spanOf(this.reach.store.view.selection);
    if (span) this.reach.store.reveal(span.from, span.to, true);
  }

  /** Takes back one thing. */
  private escape(): void {
    const { store, search } = this.reach;
    const { view } = store;
    if (view.query !== "") {
      search.value = "";
      store.set({ query: "" });
    } else if (view.site !== null) store.set({ site: null });
    else if (view.range !== null) store.set({ range: null });
    else if (view.selection !== null) store.set({ selection: null });
  }

  /** The next wait of the same thread. */
  private step(by: number): void {
    const { model, store } = this.reach;
    const { selection } = store.view;
    if (selection?.kind !== "wait") return this.lane(0);
    const lane = model.laneOfWait(selection.index);
    for (let at = selection.index + by; at >= lane.first && at < lane.last; at += by) {
      if (model.isMatch[at] === 1) return this.select({ kind: "wait", index: at });
    }
  }

  /** The wait of another thread at about the same time. */
  private lane(by: number): void {
    const { model, store, timeline } = this.reach;
    const lanes = timeline.rows.flatMap((row) => (row.kind === "lane" && row.lane.waits > 0 ? [row.lane] : []));
    if (lanes.length === 0) return;
    const { selection, time } = store.view;
    const known = selection?.kind === "wait" ? lanes.indexOf(model.laneOfWait(selection.index)) : -1;
    const next = lanes[known < 0 ? 0 : Math.min(lanes.length - 1, Math.max(0, known + by))];
    const instant = selection?.kind === "wait" ? model.waits.start[selection.index] : time.from;
    const found = Math.min(next.last - 1, model.firstWait(next, instant));
    this.select({ kind: "wait", index: found });
  }

  /** Zooms and moves for as long as a key is held. */
  private hold(key: string): void {
    if (this.held.has(key)) return;
    const isFirst = this.held.size === 0;
    this.held.add(key);
    this.move(0.05);
    if (!isFirst) return;
    this.last = performance.now();
    const frame = (now: number) => {
      if (this.held.size === 0) return;
      this.move(Math.min(0.1, (now - this.last) / 1_000));
      this.last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  private move(seconds: number): void {
    const { store } = this.reach;
    const { time, selection } = store.view;
    const span = this.reach.spanOf(selection);
    const middle = (time.from + time.to) / 2;
    const isInView = span !== null && span.to > time.from && span.from < time.to;
    const around = isInView ? (Math.max(span.from, time.from) + Math.min(span.to, time.to)) / 2 : middle;
    if (this.held.has("w")) store.zoom(Math.exp(-ZOOM * seconds), around);
    if (this.held.has("s")) store.zoom(Math.exp(ZOOM * seconds), around);
    if (this.held.has("a")) store.pan(-PAN * seconds);
    if (this.held.has("d")) store.pan(PAN * seconds);
  }

  private pointer(): void {
    const { canvas, store, timeline } = this.reach;
    let down: { x: number; time: number; from: number; to: number; isPan: boolean; moved: boolean } | null = null;
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
        const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
        if (event.shiftKey || Math.abs(dx) > Math.abs(dy)) store.pan((event.shiftKey && dx === 0 ? dy : dx) / timeline.canvas.width);
        else store.zoom(Math.exp(Math.max(-1, Math.min(1, dy * 0.002))), timeline.time(event.offsetX));
      },
      { passive: false },
    );
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button > 1) return;
      const { from, to } = store.view.time;
      down = { x: event.offsetX, time: timeline.time(event.offsetX), from, to, isPan: event.shiftKey || event.button === 1, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (down === null) {
        this.hover(event);
        return;
      }
      if (!down.moved && Math.abs(event.offsetX - down.x) < 4) return;
      down.moved = true;
      if (down.isPan) {
        const by = ((event.offsetX - down.x) / timeline.canvas.width) * (down.to - down.from);
        store.move(down.from - by, down.to - by);
        return;
      }
      const now = Math.max(0, Math.min(this.reach.model.end, timeline.time(event.offsetX)));
      timeline.dragged = { from: Math.min(down.time, now), to: Math.max(down.time, now) };
      this.reach.redraw();
    });
    const up = (event: PointerEvent) => {
      const was = down;
      down = null;
      const { dragged } = timeline;
      timeline.dragged = null;
      if (was === null) return;
      if (dragged !== null) store.set({ range: dragged });
      else if (!was.moved) store.set({ selection: timeline.at(event.offsetX, event.offsetY) });
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", () => {
      down = null;
      timeline.dragged = null;
      this.reach.redraw();
    });
    canvas.addEventListener("pointerleave", () => {
      timeline.hover = null;
      this.reach.tip(null, 0, 0);
      this.reach.redraw();
    });
    canvas.addEventListener("dblclick", () => this.zoomToSelection());
  }

  private hover(event: PointerEvent): void {
    const { timeline } = this.reach;
    const selection = timeline.at(event.offsetX, event.offsetY);
    this.reach.tip(selection, event.clientX, event.clientY);
    if (isSame(selection, timeline.hover)) return;
    timeline.hover = selection;
    this.reach.redraw();
  }

  /** Dragging in the minimap moves what is in view; beside it, it chooses it anew. */
  private onMinimap(): void {
    const { minimap, store, model } = this.reach;
    let down: { time: number; from: number; to: number; isMove: boolean } | null = null;
    const timeOf = (event: PointerEvent) => (event.offsetX / Math.max(1, minimap.clientWidth)) * model.end;
    minimap.addEventListener("pointerdown", (event) => {
      const { from, to } = store.view.time;
      const time = timeOf(event);
      down = { time, from, to, isMove: time >= from && time <= to && to - from < model.end };
      minimap.setPointerCapture(event.pointerId);
    });
    minimap.addEventListener("pointermove", (event) => {
      if (down === null) return;
      const time = timeOf(event);
      if (down.isMove) store.move(down.from + time - down.time, down.to + time - down.time);
      else if (time !== down.time) store.move(Math.min(time, down.time), Math.max(time, down.time));
    });
    minimap.addEventListener("pointerup", (event) => {
      if (down !== null && !down.isMove && timeOf(event) === down.time) {
        const half = (down.to - down.from) / 2;
        store.move(down.time - half, down.time + half);
      }
      down = null;
    });
  }
}

function isSame(a: Selection | null, b: Selection | null): boolean {
  if (a === null || b === null) return a === b;
  if (a.kind === "stall" || b.kind === "stall") {
    return a.kind === b.kind && a.kind === "stall" && b.kind === "stall" && a.runtime === b.runtime && Math.abs(a.start - b.start) < 1;
  }
  return a.kind === b.kind && a.index === b.index;
}
