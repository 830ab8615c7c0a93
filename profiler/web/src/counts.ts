// The figures of a range of time, out of single waits.

import type { Model } from "./model";
import { firstAfter } from "./model";
import type { Span } from "./view";

export interface SiteCount {
  total: number;
  waits: number;
  max: number;
  p50: number;
  p99: number;
}

/** Buckets of a length: 32 for each power of two, so that a quantile is right to one in 32. */
const STEPS = 32;
const BUCKETS = 54 * STEPS;

function bucketOf(length: number): number {
  if (length < 1) return 0;
  const power = Math.floor(Math.log2(length));
  return Math.min(BUCKETS - 1, power * STEPS + Math.floor((length / 2 ** power - 1) * STEPS));
}

function lengthOf(bucket: number): number {
  const power = Math.floor(bucket / STEPS);
  return 2 ** power * (1 + ((bucket % STEPS) + 0.5) / STEPS);
}

function quantile(counts: Uint32Array, waits: number, of: number, max: number): number {
  let left = Math.ceil(waits * of);
  for (let bucket = 0; bucket < counts.length; bucket++) {
    left -= counts[bucket];
    if (left <= 0) return Math.min(max, lengthOf(bucket));
  }
  return max;
}

/** Waits that lie in the range, by site; of those that reach beyond it, the part within counts. */
export function countSites(model: Model, range: Span): (SiteCount | null)[] {
  const { waits, names, lanes } = model;
  const siteOf = Int32Array.from([-1, ...names.stacks.map((stack) => stack.site ?? -1)]);
  const counts: (SiteCount | null)[] = names.sites.map(() => null);
  const lengths: (Uint32Array | null)[] = names.sites.map(() => null);
  for (const lane of lanes) {
    for (let at = firstAfter(waits.end, lane.first, lane.last, range.from); at < lane.last; at++) {
      if (waits.start[at] >= range.to) break;
      const site = siteOf[waits.stack[at]];
      const part = Math.min(range.to, waits.wakeup[at]) - Math.max(range.from, waits.start[at]);
      if (site < 0 || part <= 0) continue;
      let count = counts[site];
      let buckets = lengths[site];
      if (count === null || buckets === null) {
        count = counts[site] = { total: 0, waits: 0, max: 0, p50: 0, p99: 0 };
        buckets = lengths[site] = new Uint32Array(BUCKETS);
      }
      const length = waits.wakeup[at] - waits.start[at];
      count.total += part;
      count.waits++;
      if (length > count.max) count.max = length;
      buckets[bucketOf(length)]++;
    }
  }
  counts.forEach((count, site) => {
    const buckets = lengths[site];
    if (count === null || buckets === null) return;
    count.p50 = quantile(buckets, count.waits, 0.5, count.max);
    count.p99 = quantile(buckets, count.waits, 0.99, count.max);
  });
  return counts;
}

/** Blocked time by stack, as `Uint`s have it; index 0 is for waits without one. */
export function countStacks(model: Model, range: Span): { runtime: number; stack: number; blocked: number; waits: number }[] {
  const { waits, names, lanes } = model;
  const stacks = names.stacks.length + 1;
  const found = [];
  const times = new Map<number, { blocked: Float64Array; waits: Uint32Array }>();
  for (const lane of lanes) {
    const runtime = lane.runtime ?? -1;
    let sums = times.get(runtime);
    if (!sums) times.set(runtime, (sums = { blocked: new Float64Array(stacks), waits: new Uint32Array(stacks) }));
    for (let at = firstAfter(waits.end, lane.first, lane.last, range.from); at < lane.last; at++) {
      if (waits.start[at] >= range.to) break;
      const part = Math.min(range.to, waits.wakeup[at]) - Math.max(range.from, waits.start[at]);
      if (part <= 0) continue;
      sums.blocked[waits.stack[at]] += part;
      sums.waits[waits.stack[at]]++;
    }
  }
  for (const [runtime, sums] of times) {
    for (let stack = 1; stack < stacks; stack++) {
      if (sums.blocked[stack] > 0) found.push({ runtime, stack, blocked: sums.blocked[stack], waits: sums.waits[stack] });
    }
  }
  return found;
}

/**
 * Where the time of a runtime's workers went, by state. What waited is told by single waits; what ran, by
 * the intervals that the range touches; the rest was idle, or in waits too short to be told one by one.
 */
export function countStates(model: Model, runtime: number, range: Span): { states: Map<string, number>; whole: number } {
  const { waits, names } = model;
  const workers = model.lanes.filter((lane) => lane.worker && lane.runtime === runtime);
  const of = new Set(workers.map((lane) => lane.index));
  const states = new Map<string, number>();
  const add = (state: string, time: number) => states.set(state, (states.get(state) ?? 0) + time);
  let offCpu = 0;
  for (const interval of model.intervals) {
    const common = Math.min(range.to, interval.end) - Math.max(range.from, interval.start);
    if (common <= 0) continue;
    const share = common / (interval.end - interval.start);
    for (const thread of interval.threads) {
      if (!of.has(thread.lane)) continue;
      add("running", thread.running * share);
      add("runnable", thread.runnable * share);
      offCpu += thread.offCpu * share;
    }
  }
  let told = 0;
  for (const lane of workers) {
    for (let at = firstAfter(waits.end, lane.first, lane.last, range.from); at < lane.last; at++) {
      if (waits.start[at] >= range.to) break;
      const part = Math.min(range.to, waits.wakeup[at]) - Math.max(range.from, waits.start[at]);
      if (part <= 0) continue;
      add(names.states[model.stack(waits.stack[at])?.state ?? -1] ?? "unknown", part);
      told += part;
    }
  }
  add("idle", Math.max(0, offCpu - told));
  let whole = 0;
  for (const time of states.values()) whole += time;
  return { states, whole };
}
