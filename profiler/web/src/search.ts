// Going from match to match, in the order of time.

import { firstAfter, type Model } from "./model";

/** Whether one wait comes before another: by its start, then by its place. */
function isBefore(model: Model, a: number, b: number): boolean {
  const { start } = model.waits;
  return start[a] !== start[b] ? start[a] < start[b] : a < b;
}

/**
 * The next match after (or before) a wait; where there is none selected, after an instant. After the last
 * one comes the first.
 */
export function nextMatch(model: Model, from: number | null, time: number, forward: boolean): number | null {
  const { waits, lanes, isMatch } = model;
  let next: number | null = null;
  let wrapped: number | null = null;
  const better = (a: number, b: number | null) => b === null || (forward ? isBefore(model, a, b) : isBefore(model, b, a));
  const isAfter = (at: number) => {
    if (from !== null) return at !== from && (forward ? isBefore(model, from, at) : isBefore(model, at, from));
    return forward ? waits.start[at] >= time : waits.start[at] < time;
  };
  const instant = from === null ? time : waits.start[from];
  for (const lane of lanes) {
    const step = forward ? 1 : -1;
    const begin = forward ? firstAfter(waits.start, lane.first, lane.last, instant - 1) : firstAfter(waits.start, lane.first, lane.last, instant) - 1;
    for (let at = begin; at >= lane.first && at < lane.last; at += step) {
      if (isMatch[at] === 0 || !isAfter(at)) continue;
      if (better(at, next)) next = at;
      break;
    }
    const edge = forward ? lane.first : lane.last - 1;
    for (let at = edge; at >= lane.first && at < lane.last; at += step) {
      if (isMatch[at] === 0) continue;
      if (better(at, wrapped)) wrapped = at;
      break;
    }
  }
  return next ?? wrapped;
}

/** The longest wait of a site. */
export function longestOf(model: Model, site: number): number | null {
  const { waits, names } = model;
  const ofSite = Uint8Array.from([0, ...names.stacks.map((stack) => (stack.site === site ? 1 : 0))]);
  let best: number | null = null;
  for (let at = 0; at < waits.length; at++) {
    if (ofSite[waits.stack[at]] === 0) continue;
    if (best === null || waits.wakeup[at] - waits.start[at] > waits.wakeup[best] - waits.start[best]) best = at;
  }
  return best;
}
