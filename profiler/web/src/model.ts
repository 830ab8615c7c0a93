// The data with what is computed of them once: rows, groups of colours, and who matches a search.

import type { Data, Interval, LaneName, Names, Polls, StackName, Waits } from "./data";

export interface Lane extends LaneName {
  index: number;
  /** Its waits are those from `first` to before `last`; polls likewise. */
  first: number;
  last: number;
  firstPoll: number;
  lastPoll: number;
}

/** What shares a colour: causes of blocked waits first, then states, then what does not match. */
export interface Groups {
  causes: number;
  length: number;
  runnable: number;
  running: number;
  dimmed: number;
}

export class Model {
  readonly names: Names;
  readonly waits: Waits;
  readonly polls: Polls;
  readonly intervals: Interval[];
  readonly lanes: Lane[];
  readonly groups: Groups;
  /** By stack index, 0 for none. */
  readonly groupOfStack: Uint8Array;
  readonly blockedState: number;
  readonly end: number;
  /** Whether a wait, or a poll, is one of those that are asked for. */
  readonly isMatch: Uint8Array;
  readonly isPollMatch: Uint8Array;
  matches = 0;
  /** Grows when matches change. */
  generation = 0;

  constructor(data: Data) {
    this.names = data.names;
    this.waits = data.waits;
    this.polls = data.polls;
    this.intervals = data.intervals;
    this.end = Math.max(1, data.names.duration);
    let [wait, poll] = [0, 0];
    this.lanes = data.names.lanes.map((name, index) => {
      const lane = { ...name, index, first: wait, last: wait + name.waits, firstPoll: poll, lastPoll: poll + name.polls };
      [wait, poll] = [lane.last, lane.lastPoll];
      return lane;
    });
    const causes = data.names.causes.length;
    const states = data.names.states;
    const stateGroup = (name: string) => causes + states.indexOf(name);
    this.groups = {
      causes,
      length: causes + states.length + 1,
      runnable: stateGroup("runnable"),
      running: stateGroup("running"),
      dimmed: causes + states.length,
    };
    this.blockedState = states.indexOf("blocked");
    this.groupOfStack = new Uint8Array(data.names.stacks.length + 1);
    this.groupOfStack[0] = stateGroup("unknown");
    data.names.stacks.forEach((stack, index) => {
      this.groupOfStack[index + 1] = this.groupOf(stack.state, stack.cause);
    });
    this.isMatch = new Uint8Array(this.waits.length).fill(1);
    this.isPollMatch = new Uint8Array(this.polls.length).fill(1);
    this.matches = this.waits.length;
  }

  /** The colour group of what is in a state, and has a cause where it is blocked. */
  groupOf(state: number, cause: number | null): number {
    return state === this.blockedState ? (cause ?? this.groups.causes - 1) : this.groups.causes + state;
  }

  /** Whether a poll is long because its thread waited, as `Poll::is_blocked` of the recording has it. */
  isBlockedPoll(poll: number): boolean {
    const { waits, blocked, running, start, end } = this.polls;
    return waits[poll] > 0 && blocked[poll] >= running[poll] && blocked[poll] >= Math.floor((end[poll] - start[poll]) / 4);
  }

  groupName(group: number): string {
    const { causes, states } = this.names;
    if (group < causes.length) return causes[group];
    return states[group - causes.length] ?? "";
  }

  /** What a group is called in a legend. */
  groupLabel(group: number): string {
    const name = this.groupName(group);
    if (group < this.groups.causes) return name;
    return { other: "other threads", pool: "blocking pool", runtime: "in tokio", "handed-off": "block_in_place" }[name] ?? name;
  }

  /** The groups that waits and polls are of. */
  usedGroups(): Set<number> {
    const used = new Uint8Array(this.groups.length);
    for (let at = 0; at < this.waits.length; at++) used[this.groupOfStack[this.waits.stack[at]]] = 1;
    for (let at = 0; at < this.polls.length; at++) used[this.groupOfStack[this.polls.stack[at]]] = 1;
    return new Set([...used.keys()].filter((group) => used[group] === 1));
  }

  /** The stack that a column names. */
  stack(number: number): StackName | null {
    return this.names.stacks[number - 1] ?? null;
  }

  laneOfWait(wait: number): Lane {
    return this.lanes.find((lane) => wait < lane.last) ?? this.lanes[this.lanes.length - 1];
  }

  laneOfPoll(poll: number): Lane {
    return this.lanes.find((lane) => poll < lane.lastPoll) ?? this.lanes[this.lanes.length - 1];
  }

  /** The first wait of a lane that ends after an instant. */
  firstWait(lane: Lane, time: number): number {
    return firstAfter(this.waits.end, lane.first, lane.last, time);
  }

  firstPoll(lane: Lane, time: number): number {
    return firstAfter(this.polls.end, lane.firstPoll, lane.lastPoll, time);
  }

  /** The poll that a wait was in. */
  pollOf(lane: Lane, wait: number): number | null {
    const poll = this.firstPoll(lane, this.waits.start[wait]);
    return poll < lane.lastPoll && this.polls.start[poll] < this.waits.end[wait] ? poll : null;
  }

  isBlocked(wait: number): boolean {
    return this.stack(this.waits.stack[wait])?.state === this.blockedState;
  }

  /** Asks for waits by text and site, without those of groups that are hidden. */
  match(query: string, site: number | null, hidden: ReadonlySet<number>): void {
    const { names, waits, polls } = this;
    const text = query.trim().toLowerCase();
    const has = (...texts: (string | null)[]) => texts.some((of) => of !== null && of.toLowerCase().includes(text));
    const stackShown = new Uint8Array(names.stacks.length + 1);
    const stackHas = new Uint8Array(names.stacks.length + 1);
    stackShown[0] = site === null && !hidden.has(this.groupOfStack[0]) ? 1 : 0;
    names.stacks.forEach((stack, index) => {
      const of = index + 1;
      const isShown = (site === null || stack.site === site) && !hidden.has(this.groupOfStack[of]);
      stackShown[of] = isShown ? 1 : 0;
      const cause = stack.cause === null ? null : names.causes[stack.cause];
      stackHas[of] = has(stack.name, stack.place, stack.task, stack.call, cause, names.states[stack.state]) ? 1 : 0;
    });
    const objectHas = Uint8Array.from(["", ...names.objects], (name) => (name !== "" && has(name) ? 1 : 0));
    const wakerHas = Uint8Array.from([null, ...names.wakers], (waker) => (waker && has(waker.name) ? 1 : 0));
    let matches = 0;
    for (const lane of this.lanes) {
      const all = text === "" || has(lane.name);
      for (let at = lane.first; at < lane.last; at++) {
        const stack = waits.stack[at];
        const is = stackShown[stack] & (all ? 1 : stackHas[stack] | objectHas[waits.object[at]] | wakerHas[waits.waker[at]]);
        this.isMatch[at] = is;
        matches += is;
      }
      for (let at = lane.firstPoll; at < lane.lastPoll; at++) {
        const stack = polls.stack[at];
        this.isPollMatch[at] = stackShown[stack] & (all ? 1 : stackHas[stack]);
      }
    }
    this.matches = matches;
    this.generation++;
  }
}

/** The first index whose value is above `time`; values rise. */
export function firstAfter(values: Float64Array, first: number, last: number, time: number): number {
  while (first < last) {
    const middle = (first + last) >>> 1;
    if (values[middle] > time) last = middle;
    else first = middle + 1;
  }
  return first;
}
