// What is looked at: one state, which everything is drawn from and which the address holds.

export type Selection =
  | { kind: "wait"; index: number }
  | { kind: "poll"; index: number }
  | { kind: "stall"; runtime: number; start: number; end: number };

export interface Span {
  from: number;
  to: number;
}

export interface View {
  /** The time in view. */
  time: Span;
  /** The time that tables are of; none for all of it. */
  range: Span | null;
  selection: Selection | null;
  query: string;
  /** The site whose waits alone stand out. */
  site: number | null;
  /** Groups that do not. */
  hidden: Set<number>;
  /** Whether threads that are no workers are shown. */
  others: boolean;
  sort: { key: string; descending: boolean } | null;
  filter: string;
  state: string;
  /** The frame that the flamegraph is zoomed to: frames from the root. */
  flame: number[];
}

/** Views of time kept for going back. */
const BACK = 100;
/** Changes within this many milliseconds are one. */
const TOGETHER = 400;

export class Store {
  view: View;
  private readonly end: number;
  private listeners: ((changed: Set<keyof View>) => void)[] = [];
  private changed = new Set<keyof View>();
  private scheduled = false;
  private back: Span[] = [];
  private lastMove = -Infinity;

  constructor(end: number) {
    this.end = end;
    this.view = Store.whole(end);
  }

  static whole(end: number): View {
    return {
      time: { from: 0, to: end },
      range: null,
      selection: null,
      query: "",
      site: null,
      hidden: new Set(),
      others: false,
      sort: null,
      filter: "",
      state: "",
      flame: [],
    };
  }

  listen(listener: (changed: Set<keyof View>) => void): void {
    this.listeners.push(listener);
  }

  /** Changes the view; who listens is told before the next frame. */
  set(change: Partial<View>): void {
    Object.assign(this.view, change);
    for (const key of Object.keys(change)) this.changed.add(key as keyof View);
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => this.flush());
  }

  /** Tells who listens at once. */
  flush(): void {
    this.scheduled = false;
    const changed = this.changed;
    this.changed = new Set();
    if (changed.size === 0) return;
    for (const listener of this.listeners) listener(changed);
  }

  /** Moves the time in view, at most a thousand times closer than a microsecond. */
  move(from: number, to: number, now = performance.now()): void {
    const least = Math.min(1_000, this.end);
    let length = Math.min(this.end, Math.max(least, to - from));
    if (!Number.isFinite(length)) length = this.end;
    const middle = (from + to) / 2;
    const start = Math.min(this.end - length, Math.max(0, middle - length / 2));
    const { time } = this.view;
    if (time.from === start && time.to === start + length) return;
    if (now - this.lastMove > TOGETHER) {
      this.back.push({ ...time });
      if (this.back.length > BACK) this.back.shift();
    }
    this.lastMove = now;
    this.set({ time: { from: start, to: start + length } });
  }

  /** Zooms by a factor around an instant. */
  zoom(factor: number, around: number): void {
    const { from, to } = this.view.time;
    const length = Math.min(this.end, Math.max(1_000, (to - from) * factor));
    const at = (around - from) / (to - from);
    this.move(around - at * length, around + (1 - at) * length);
  }

  pan(share: number): void {
    const { from, to } = this.view.time;
    const by = (to - from) * share;
    this.move(from + by, to + by);
  }

  fit(): void {
    this.lastMove = -Infinity;
    this.move(0, this.end);
    this.lastMove = -Infinity;
  }

  /** Goes back to the time that was in view before. */
  goBack(): void {
    const last = this.back.pop();
    if (last) this.set({ time: last });
    this.lastMove = -Infinity;
  }

  /** Brings a stretch into view; one that is far too short to be seen, or not in view, gets a tenth of it. */
  reveal(from: number, to: number, force = false): void {
    const { time } = this.view;
    const length = time.to - time.from;
    const isVisible = from >= time.from && to <= time.to && (to - from) * 50 >= length;
    if (isVisible && !force) return;
    const around = force ? Math.max((to - from) * 0.25, 500) : Math.max((to - from) * 3, 5_000);
    this.lastMove = -Infinity;
    this.move(from - around, to + around);
    this.lastMove = -Infinity;
  }
}

function span(of: Span): string {
  return `${Math.round(of.from)}-${Math.round(of.to)}`;
}

function spanOf(text: string | null, end: number): Span | null {
  const parts = /^(\d{1,16})-(\d{1,16})$/.exec(text ?? "");
  if (!parts) return null;
  const [from, to] = [Number(parts[1]), Number(parts[2])];
  return from < to && to <= end + 1 ? { from, to: Math.min(to, end) } : null;
}

function selectionText(of: Selection): string {
  if (of.kind === "stall") return `x${of.runtime}.${Math.round(of.start)}-${Math.round(of.end)}`;
  return `${of.kind === "wait" ? "w" : "p"}${of.index}`;
}

function selectionOf(text: string | null, limits: Limits): Selection | null {
  const one = /^([wp])(\d{1,9})$/.exec(text ?? "");
  if (one) {
    const kind = one[1] === "w" ? "wait" : "poll";
    const index = Number(one[2]);
    return index < (kind === "wait" ? limits.waits : limits.polls) ? { kind, index } : null;
  }
  const stall = /^x(\d{1,6})\.(.*)$/.exec(text ?? "");
  const of = stall && spanOf(stall[2], limits.end);
  if (!stall || !of || Number(stall[1]) >= limits.runtimes) return null;
  return { kind: "stall", runtime: Number(stall[1]), start: of.from, end: of.to };
}

export interface Limits {
  end: number;
  waits: number;
  polls: number;
  runtimes: number;
  sites: number;
  groups: number;
}

/** The view as the part of an address behind `#`: what is as at first is left out. */
export function toFragment(view: View, end: number): string {
  const parts = new URLSearchParams();
  const { time } = view;
  if (time.from > 0 || time.to < end) parts.set("t", span(time));
  if (view.range) parts.set("r", span(view.range));
  if (view.selection) parts.set("s", selectionText(view.selection));
  if (view.query !== "") parts.set("q", view.query);
  if (view.site !== null) parts.set("site", String(view.site));
  if (view.hidden.size > 0) parts.set("hide", [...view.hidden].sort((a, b) => a - b).join("."));
  if (view.others) parts.set("others", "1");
  if (view.sort) parts.set("sort", `${view.sort.key}.${view.sort.descending ? "down" : "up"}`);
  if (view.filter !== "") parts.set("filter", view.filter);
  if (view.state !== "") parts.set("state", view.state);
  if (view.flame.length > 0) parts.set("flame", view.flame.join("."));
  return parts.toString();
}

/** The view that an address holds. Whatever is no part of one counts for nothing: anybody may write a link. */
export function ofFragment(fragment: string, limits: Limits): View {
  const parts = new URLSearchParams(fragment.replace(/^#/, ""));
  const numbers = (text: string | null, below: number) =>
    (text ?? "").split(".").filter((part) => /^\d{1,9}$/.test(part)).map(Number).filter((number) => number < below);
  const view = Store.whole(limits.end);
  view.time = spanOf(parts.get("t"), limits.end) ?? view.time;
  view.range = spanOf(parts.get("r"), limits.end);
  view.selection = selectionOf(parts.get("s"), limits);
  view.query = (parts.get("q") ?? "").slice(0, 1_000);
  view.site = numbers(parts.get("site"), limits.sites)[0] ?? null;
  view.hidden = new Set(numbers(parts.get("hide"), limits.groups));
  view.others = parts.get("others") === "1";
  const sort = /^(\w{1,20})\.(down|up)$/.exec(parts.get("sort") ?? "");
  view.sort = sort ? { key: sort[1], descending: sort[2] === "down" } : null;
  view.filter = (parts.get("filter") ?? "").slice(0, 1_000);
  view.state = (parts.get("state") ?? "").slice(0, 20);
  view.flame = numbers(parts.get("flame"), 1e9);
  return view;
}
