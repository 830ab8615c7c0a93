// What is known of the selected stretch.

import { blameChain, placed } from "./blame";
import { h, replace } from "./dom";
import { counted, duration, instant, percent } from "./format";
import type { Model } from "./model";
import type { Starved } from "./stalls";
import type { Selection, Store } from "./view";

type Row = [string, string | Node | null];

export class Detail {
  starved: Starved[] = [];

  constructor(
    private readonly model: Model,
    private readonly store: Store,
    private readonly panel: HTMLElement,
  ) {}

  draw(): void {
    const { selection } = this.store.view;
    if (selection === null) {
      this.panel.hidden = true;
      replace(this.panel);
      return;
    }
    this.panel.hidden = false;
    if (selection.kind === "wait") this.wait(selection.index);
    else if (selection.kind === "poll") this.poll(selection.index);
    else this.stall(selection.runtime, selection.start, selection.end);
    this.panel.scrollTop = 0;
  }

  /** What is selected, in a line. */
  said(): string {
    const { selection } = this.store.view;
    const heading = this.panel.querySelector("h3")?.textContent ?? "";
    const facts = this.panel.querySelector(".lead")?.textContent ?? "";
    return selection === null ? "nothing selected" : `${heading}: ${facts}`;
  }

  private frame(kind: string, title: string, lead: string, rows: Row[], ...more: (Node | null)[]): void {
    const dl = h("dl");
    for (const [label, value] of rows) {
      if (value === null || value === "") continue;
      dl.append(h("dt", {}, label), h("dd", {}, value));
    }
    replace(
      this.panel,
      h(
        "div",
        { class: "detail-head" },
        h("p", { class: "kind" }, kind),
        h("button", { type: "button", class: "quiet", "aria-label": "Close the details", onclick: () => this.store.set({ selection: null }) }, "✕"),
      ),
      h("h3", {}, title),
      h("p", { class: "lead" }, lead),
      this.actions(),
      dl,
      ...more,
    );
  }

  private actions(): HTMLElement {
    const zoom = () => {
      const span = this.spanOf(this.store.view.selection);
      if (span) this.store.reveal(span.from, span.to, true);
    };
    const count = () => {
      const span = this.spanOf(this.store.view.selection);
      if (span) this.store.set({ range: span });
    };
    return h(
      "p",
      { class: "actions" },
      h("button", { type: "button", onclick: zoom }, "Zoom to it"),
      h("button", { type: "button", onclick: count }, "Tables of this time"),
    );
  }

  spanOf(selection: Selection | null): { from: number; to: number } | null {
    const { waits, polls } = this.model;
    if (selection === null) return null;
    if (selection.kind === "stall") return { from: selection.start, to: selection.end };
    const at = selection.index;
    if (selection.kind === "wait") return { from: waits.start[at], to: Math.max(waits.end[at], waits.start[at] + 1) };
    return { from: polls.start[at], to: Math.max(polls.end[at], polls.start[at] + 1) };
  }

  private wait(at: number): void {
    const { model } = this;
    const { waits, names } = model;
    const lane = model.laneOfWait(at);
    const stack = model.stack(waits.stack[at]);
    const group = model.groupName(model.groupOfStack[waits.stack[at]]);
    const blocked = waits.wakeup[at] - waits.start[at];
    const queued = waits.end[at] - waits.wakeup[at];
    const poll = model.pollOf(lane, at);
    const isOpen = lane.open !== null && lane.first + lane.open === at;
    const state = names.states[stack?.state ?? -1] ?? "unknown";
    const rows: Row[] = [
      ["began", instant(waits.start[at], 1e3)],
      ["thread", lane.name + (lane.runtime === null ? "" : `, ${names.runtimes[lane.runtime].id}`)],
      ["state", `${state}${stack ? ` (${stack.role})` : ""}`],
      ["cause", stack?.cause == null ? null : names.causes[stack.cause]],
      ["call", stack?.call ?? null],
      ["object", names.objects[waits.object[at] - 1] ?? null],
      ["task", task(stack?.task ?? null, waits.task[at])],
      ["poll", poll === null ? null : this.pollLink(poll)],
      ["then", queued > 0 ? `${duration(queued)} in line for a CPU` : null],
      ["note", isOpen ? "it had not ended when the recording did" : null],
    ];
    const title = stack ? stack.name : "no stack";
    const lead = `${duration(blocked)} ${group}${stack?.place ? ` at ${stack.place}` : ""}`;
    this.frame("Wait", title, lead, rows, this.chain(at), this.stackOf(waits.stack[at]), this.siteLink(stack?.site ?? null));
  }

  private poll(at: number): void {
    const { model } = this;
    const { polls, waits } = model;
    const lane = model.laneOfPoll(at);
    const stack = model.stack(polls.stack[at]);
    const length = polls.end[at] - polls.start[at];
    const share = (part: number) => `${duration(part)}, ${percent(part / Math.max(1, length))}`;
    let longest = -1;
    for (let wait = model.firstWait(lane, polls.start[at]); wait < lane.last && waits.start[wait] < polls.end[at]; wait++) {
      if (longest < 0 || waits.wakeup[wait] - waits.start[wait] > waits.wakeup[longest] - waits.start[longest]) longest = wait;
    }
    const rows: Row[] = [
      ["began", instant(polls.start[at], 1e3)],
      ["thread", lane.name],
      ["task", task(stack?.task ?? null, polls.task[at])],
      ["blocked", share(polls.blocked[at])],
      ["for a CPU", polls.runqueue[at] > 0 ? share(polls.runqueue[at]) : null],
      ["running", share(polls.running[at])],
      ["of it", `${counted(polls.waits[at], "wait", "waits")}, ${counted(polls.samples[at], "sample", "samples")}`],
      ["longest", longest < 0 ? null : this.waitLink(longest)],
      ["told by", polls.byTick[at] ? "the worker’s tick and the task’s id" : "stacks: the worker’s tick is not known"],
    ];
    const lead = `held its worker for ${duration(length)}`;
    this.frame("Long poll", stack?.task ?? stack?.name ?? "a task", lead, rows, this.stackOf(polls.stack[at]), this.siteLink(stack?.site ?? null));
  }

  private stall(runtime: number, from: number, to: number): void {
    const { model } = this;
    const { waits, names } = model;
    const list = h("ol", { class: "links" });
    for (const lane of model.lanes.filter((of) => of.worker && of.runtime === runtime)) {
      let best = -1;
      let overlap = 0;
      for (let at = model.firstWait(lane, from); at < lane.last && waits.start[at] < to; at++) {
        const common = Math.min(to, waits.wakeup[at]) - Math.max(from, waits.start[at]);
        if (common > overlap) [best, overlap] = [at, common];
      }
      const link = best < 0 ? "in waits that are not known one by one" : this.waitLink(best);
      list.append(h("li", {}, h("span", { class: "dim" }, `${lane.name}: `), link));
    }
    const { workers, id, title } = names.runtimes[runtime];
    const who = workers === 1 ? "its only worker was" : workers === 2 ? "both workers were" : `all ${workers} workers were`;
    this.frame(
      "Stall",
      `No task of ${id} could run`,
      `${duration(to - from)}: ${who} blocked at once`,
      [["began", instant(from, 1e3)], ["runtime", title]],
      h("h4", {}, "What they waited for"),
      list,
    );
  }

  /** What the waker did meanwhile, and who held that up. */
  private chain(wait: number): HTMLElement | null {
    const links = blameChain(this.model, wait);
    if (links.length === 0) return null;
    const list = h("ol", { class: "chain" });
    for (const link of links) {
      const item = h("li", {}, "ended by ", h("b", {}, link.waker), link.from ? h("span", {}, " in ", h("code", {}, link.from)) : null);
      if (link.wait !== null) {
        item.append(h("div", {}, "which meanwhile waited, for ", `${duration(link.overlap)} of it: `, this.waitLink(link.wait)));
      }
      if (link.rest !== null) item.append(h("div", { class: "dim" }, link.rest));
      list.append(item);
    }
    return h("section", {}, h("h4", {}, "Who ended it, and what held that up"), list);
  }

  private stackOf(number: number): HTMLElement | null {
    const stack = this.model.stack(number);
    if (stack === null) return null;
    const { frames, kinds } = this.model.names;
    const list = h("ol", { class: "stack" });
    // The leaf comes first, as in a backtrace.
    for (const index of [...stack.full].reverse()) {
      const [name, kind, , place] = frames[index];
      list.append(h("li", { class: `k-${kinds[kind].name.replace(/\W+/g, "-")}` }, name, place ? h("span", { class: "at" }, ` ${place}`) : null));
    }
    return h("section", {}, h("h4", {}, "Stack"), stack.cut ? h("p", { class: "dim" }, `cut off: ${stack.cut}`) : null, list);
  }

  private siteLink(site: number | null): HTMLElement | null {
    if (site === null) return null;
    const isOnly = this.store.view.site === site;
    return h(
      "p",
      { class: "actions" },
      h("button", { type: "button", onclick: () => this.store.set({ site: isOnly ? null : site }) }, isOnly ? "Show all sites" : "Only this site in the timeline"),
    );
  }

  private waitLink(wait: number): HTMLElement {
    const { model } = this;
    const stack = model.stack(model.waits.stack[wait]);
    const group = model.groupName(model.groupOfStack[model.waits.stack[wait]]);
    const length = duration(model.waits.wakeup[wait] - model.waits.start[wait]);
    return this.link(`${length} in ${placed(stack?.name ?? "no stack", stack?.place ?? null)} (${group})`, { kind: "wait", index: wait });
  }

  private pollLink(poll: number): HTMLElement {
    const { polls } = this.model;
    return this.link(`long poll of ${duration(polls.end[poll] - polls.start[poll])}`, { kind: "poll", index: poll });
  }

  private link(text: string, selection: Selection): HTMLElement {
    const select = () => {
      this.store.set({ selection });
      const span = this.spanOf(selection);
      if (span) this.store.reveal(span.from, span.to);
    };
    return h("button", { type: "button", class: "link", onclick: select }, text);
  }
}

function task(name: string | null, id: number): string | null {
  if (name === null) return id < 0 ? null : `id ${id}`;
  return id < 0 ? name : `${name} (id ${id})`;
}
