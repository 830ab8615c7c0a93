// When no task of a runtime could run, and which stalls were the worst.

import { firstAfter, type Model } from "./model";
import type { Selection } from "./view";

/** Stalls that one can go through. */
const STALLS = 1_000;

export interface Starved {
  start: Float64Array;
  end: Float64Array;
  /** Sums of the lengths before each. */
  before: Float64Array;
}

export type Stall = { from: number; to: number; selection: Selection };

/** Blocked waits and blocked polls of the workers of a runtime: each an edge up and an edge down. */
function edges(model: Model, runtime: number): Float64Array {
  const { waits, polls } = model;
  const workers = model.lanes.filter((lane) => lane.worker && lane.runtime === runtime);
  const most = workers.reduce((sum, lane) => sum + lane.waits + lane.polls, 0);
  const all = new Float64Array(2 * most);
  let length = 0;
  for (const lane of workers) {
    let [wait, poll] = [lane.first, lane.firstPoll];
    let [from, to] = [-1, -1];
    // The waits and the polls of a thread may lie in each other: a thread counts once.
    for (;;) {
      while (wait < lane.last && !model.isBlocked(wait)) wait++;
      while (poll < lane.lastPoll && !model.isBlockedPoll(poll)) poll++;
      const isWait = wait < lane.last && (poll >= lane.lastPoll || waits.start[wait] <= polls.start[poll]);
      if (!isWait && poll >= lane.lastPoll) break;
      const [start, end] = isWait ? [waits.start[wait], waits.wakeup[wait]] : [polls.start[poll], polls.end[poll]];
      if (isWait) wait++;
      else poll++;
      if (start <= to) {
        to = Math.max(to, end);
        continue;
      }
      // The lowest bit tells up from down: at one instant, down comes first.
      if (to > from) [all[length], all[length + 1]] = [2 * from + 1, 2 * to];
      length += to > from ? 2 : 0;
      [from, to] = [start, end];
    }
    if (to > from) [all[length], all[length + 1]] = [2 * from + 1, 2 * to];
    length += to > from ? 2 : 0;
  }
  return all.subarray(0, length).sort();
}

/** The times in which as many workers as a runtime has were blocked at once. */
export function starved(model: Model, runtime: number): Starved {
  const workers = Math.max(1, model.names.runtimes[runtime].workers);
  const starts: number[] = [];
  const ends: number[] = [];
  let blocked = 0;
  for (const edge of edges(model, runtime)) {
    if (edge % 2 === 1) {
      blocked++;
      if (blocked === workers) starts.push((edge - 1) / 2);
    } else {
      if (blocked === workers) ends.push(edge / 2);
      blocked--;
    }
  }
  const before = new Float64Array(starts.length + 1);
  starts.forEach((start, at) => (before[at + 1] = before[at] + ends[at] - start));
  return { start: Float64Array.from(starts), end: Float64Array.from(ends), before };
}

/** How long it was so between two instants. */
export function starvedWithin({ start, end, before }: Starved, from: number, to: number): number {
  const first = firstAfter(end, 0, end.length, from);
  let [beyond, stop] = [first, start.length];
  while (beyond < stop) {
    const middle = (beyond + stop) >>> 1;
    if (start[middle] >= to) stop = middle;
    else beyond = middle + 1;
  }
  if (first >= beyond) return 0;
  const cutFirst = Math.max(0, from - start[first]);
  const cutLast = Math.max(0, end[beyond - 1] - to);
  return before[beyond] - before[first] - cutFirst - cutLast;
}

/** Times in which no task could run, and polls that held their worker, the longest first. */
export function stalls(model: Model, all: readonly Starved[]): Stall[] {
  const found: Stall[] = [];
  const longest = (lengths: Float64Array) => (lengths.length > STALLS ? lengths.slice().sort()[lengths.length - STALLS] : 0);
  all.forEach(({ start, end }, runtime) => {
    const least = longest(start.map((from, at) => end[at] - from));
    for (let at = 0; at < start.length; at++) {
      if (end[at] - start[at] < least) continue;
      const selection: Selection = { kind: "stall", runtime, start: start[at], end: end[at] };
      found.push({ from: start[at], to: end[at], selection });
    }
  });
  const { polls } = model;
  const least = longest(polls.start.map((from, at) => polls.end[at] - from));
  for (const lane of model.lanes) {
    for (let index = lane.firstPoll; index < lane.lastPoll; index++) {
      if (!lane.worker || polls.end[index] - polls.start[index] < least) continue;
      found.push({ from: polls.start[index], to: polls.end[index], selection: { kind: "poll", index } });
    }
  }
  found.sort((a, b) => b.to - b.from - (a.to - a.from) || a.from - b.from);
  return found.slice(0, STALLS);
}
