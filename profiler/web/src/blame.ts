// Who held up whom: what the thread that ended a wait did meanwhile, and if it waited, the one that ended that.

import type { Lane, Model } from "./model";

export interface Link {
  /** The thread that ended the wait before. */
  waker: string;
  /** Where it was when it did. */
  from: string | null;
  /** What it waited for meanwhile; none where it did not wait. */
  wait: number | null;
  /** For how long of the wait before. */
  overlap: number;
  /** What is known of it beyond. */
  rest: string | null;
}

const DEPTH = 16;

/** The wait of a lane that overlaps a time the longest. */
function longestWithin(model: Model, lane: Lane, from: number, to: number): { wait: number; overlap: number } | null {
  const { start, wakeup } = model.waits;
  let best: { wait: number; overlap: number } | null = null;
  for (let wait = model.firstWait(lane, from); wait < lane.last && start[wait] < to; wait++) {
    const overlap = Math.min(to, wakeup[wait]) - Math.max(from, start[wait]);
    if (overlap > 0 && (best === null || overlap > best.overlap)) best = { wait, overlap };
  }
  return best;
}

/** The chain of a wait, link by link. */
export function blameChain(model: Model, wait: number): Link[] {
  const { waits, names } = model;
  const chain: Link[] = [];
  const seen = new Set<number>([wait]);
  let [at, from, to] = [wait, waits.start[wait], waits.wakeup[wait]];
  while (chain.length < DEPTH) {
    const waker = names.wakers[waits.waker[at] - 1];
    if (!waker) break;
    const stack = model.stack(waits.wakerStack[at]);
    const link: Link = { waker: waker.name, from: stack ? placed(stack.name, stack.place) : null, wait: null, overlap: 0, rest: null };
    chain.push(link);
    if (waker.lane === null) {
      if (stack !== null) link.rest = "it ran, was idle, or in short waits meanwhile";
      break;
    }
    const found = longestWithin(model, model.lanes[waker.lane], from, to);
    if (found === null) {
      link.rest = "it ran, was idle, or in short waits meanwhile";
      break;
    }
    link.wait = found.wait;
    link.overlap = found.overlap;
    if (seen.has(found.wait)) {
      link.rest = "a circle: it waited for one of these";
      break;
    }
    seen.add(found.wait);
    from = Math.max(from, waits.start[found.wait]);
    to = Math.min(to, waits.wakeup[found.wait]);
    at = found.wait;
  }
  return chain;
}

export function placed(name: string, place: string | null): string {
  return place === null ? name : `${name} (${place})`;
}
