// What the report's renderer packed: names as JSON on one line, then columns of numbers.

export interface RuntimeName {
  id: string;
  title: string;
  root: string;
  workers: number;
  states: Record<string, number>;
  starved: number;
  stalls: Stretch[];
  driver: Stretch[];
}

export interface Stretch {
  start_ns: number;
  length_ns: number;
}

export interface LaneName {
  name: string;
  tid: number;
  pid: number;
  process: string | null;
  role: string;
  worker: boolean;
  runtime: number | null;
  waits: number;
  polls: number;
  open: number | null;
}

export interface StackName {
  state: number;
  role: string;
  cause: number | null;
  name: string;
  place: string | null;
  task: string | null;
  call: string;
  site: number | null;
  full: number[];
  drawn: number[];
  cut: string | null;
}

export interface SiteName {
  name: string;
  state: number;
  cause: number;
  total: number;
  waits: number;
  p50: number;
  p99: number;
  max: number;
  harm: number;
  text: string;
}

export interface Fold {
  runtime: number | null;
  state: number;
  cause: number | null;
  frames: number[];
  blocked: number;
  waits: number;
}

/** Name, kind, colour, place. */
export type FrameName = [string, number, string, string | null];

export interface Names {
  version: number;
  duration: number;
  min_block: number;
  long_poll: number;
  cpus: number;
  icicle: boolean;
  states: string[];
  causes: string[];
  notes: string[];
  runtimes: RuntimeName[];
  lanes: LaneName[];
  kinds: { name: string; color: string }[];
  frames: FrameName[];
  stacks: StackName[];
  objects: string[];
  wakers: { name: string; lane: number | null }[];
  sites: SiteName[];
  folds: Fold[];
  intervals: number;
}

/** Columns of waits, lane by lane, each lane by time. Indices are one more than those of the tables, 0 is none. */
export interface Waits {
  length: number;
  start: Float64Array;
  wakeup: Float64Array;
  end: Float64Array;
  stack: Uint32Array;
  object: Uint32Array;
  waker: Uint32Array;
  wakerStack: Uint32Array;
  /** -1 where it is not known. */
  task: Float64Array;
}

export interface Polls {
  length: number;
  start: Float64Array;
  end: Float64Array;
  stack: Uint32Array;
  blocked: Float64Array;
  runqueue: Float64Array;
  running: Float64Array;
  waits: Uint32Array;
  samples: Uint32Array;
  byTick: Uint8Array;
  task: Float64Array;
}

/** Where the time went between two instants, by lane; lane -1 stands for all threads without one. */
export interface Interval {
  start: number;
  end: number;
  threads: { lane: number; running: number; runnable: number; offCpu: number }[];
}

export interface Data {
  names: Names;
  waits: Waits;
  polls: Polls;
  intervals: Interval[];
}

/** Reads numbers of seven bits a byte. */
class Reader {
  private at: number;

  constructor(private readonly bytes: Uint8Array, at: number) {
    this.at = at;
  }

  number(): number {
    const bytes = this.bytes;
    let byte = bytes[this.at++];
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    let shift = 7;
    while (shift < 28) {
      byte = bytes[this.at++];
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
      shift += 7;
    }
    let scale = 2 ** 28;
    do {
      if (this.at >= bytes.length) throw new Error("the data end too early");
      byte = bytes[this.at++];
      value += (byte & 0x7f) * scale;
      scale *= 128;
    } while (byte >= 0x80);
    return value;
  }

  /** A difference that may be below zero. */
  difference(): number {
    const zigzag = this.number();
    return zigzag % 2 === 0 ? zigzag / 2 : -(zigzag + 1) / 2;
  }

  get isAtEnd(): boolean {
    return this.at === this.bytes.length;
  }
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function tasks(reader: Reader, length: number): Float64Array {
  const ids = new Float64Array(length);
  let last = 0;
  for (let at = 0; at < length; at++) {
    if (reader.number() === 0) {
      ids[at] = -1;
    } else {
      last += reader.difference();
      ids[at] = last;
    }
  }
  return ids;
}

function waits(reader: Reader, lanes: LaneName[]): Waits {
  const length = lanes.reduce((sum, lane) => sum + lane.waits, 0);
  const start = new Float64Array(length);
  const wakeup = new Float64Array(length);
  const end = new Float64Array(length);
  // A start is told from the end before it, which is known after two more columns only.
  for (let at = 0; at < length; at++) start[at] = reader.difference();
  for (let at = 0; at < length; at++) wakeup[at] = reader.number();
  for (let at = 0; at < length; at++) end[at] = reader.number();
  let at = 0;
  for (const lane of lanes) {
    let last = 0;
    for (let left = lane.waits; left > 0; left--, at++) {
      start[at] += last;
      wakeup[at] += start[at];
      end[at] += wakeup[at];
      last = end[at];
    }
  }
  const column = () => {
    const values = new Uint32Array(length);
    for (let at = 0; at < length; at++) values[at] = reader.number();
    return values;
  };
  const [stack, object, waker, wakerStack] = [column(), column(), column(), column()];
  return { length, start, wakeup, end, stack, object, waker, wakerStack, task: tasks(reader, length) };
}

function polls(reader: Reader, lanes: LaneName[]): Polls {
  const length = lanes.reduce((sum, lane) => sum + lane.polls, 0);
  const numbers = () => new Float64Array(length);
  const counts = () => new Uint32Array(length);
  const [start, end, blocked, runqueue, running] = [numbers(), numbers(), numbers(), numbers(), numbers()];
  const [stack, waits, samples] = [counts(), counts(), counts()];
  const byTick = new Uint8Array(length);
  for (let at = 0; at < length; at++) start[at] = reader.difference();
  for (let at = 0; at < length; at++) end[at] = reader.number();
  let at = 0;
  for (const lane of lanes) {
    let last = 0;
    for (let left = lane.polls; left > 0; left--, at++) {
      start[at] += last;
      end[at] += start[at];
      last = end[at];
    }
  }
  for (let at = 0; at < length; at++) {
    stack[at] = reader.number();
    blocked[at] = reader.number();
    runqueue[at] = reader.number();
    running[at] = reader.number();
    waits[at] = reader.number();
    samples[at] = reader.number();
    byTick[at] = reader.number();
  }
  const task = tasks(reader, length);
  return { length, start, end, stack, blocked, runqueue, running, waits, samples, byTick, task };
}

function intervals(reader: Reader, length: number): Interval[] {
  const all: Interval[] = [];
  let last = 0;
  for (let at = 0; at < length; at++) {
    const start = last + reader.difference();
    const end = start + reader.number();
    last = start;
    const threads = [];
    for (let left = reader.number(); left > 0; left--) {
      const lane = reader.number() - 1;
      threads.push({ lane, running: reader.number(), runnable: reader.number(), offCpu: reader.number() });
    }
    all.push({ start, end, threads });
  }
  return all;
}

/** Reads the data out of the text of an element. */
export async function read(text: string): Promise<Data> {
  const bytes = await inflate(fromBase64(text));
  const line = bytes.indexOf(0x0a);
  const names = JSON.parse(new TextDecoder().decode(bytes.subarray(0, line))) as Names;
  if (names.version !== 1) throw new Error(`version ${names.version} of the data is not known`);
  const reader = new Reader(bytes, line + 1);
  const data = {
    names,
    waits: waits(reader, names.lanes),
    polls: polls(reader, names.lanes),
    intervals: intervals(reader, names.intervals),
  };
  if (!reader.isAtEnd) throw new Error("there are more data than names");
  return data;
}
