// The elements of the timeline, with their names.

import { byId, Canvas, h } from "./dom";
import type { Model } from "./model";
import { CPU, MINIMAP, RULER } from "./overview";
import type { Row } from "./timeline";
import type { Store } from "./view";

export interface Controls {
  section: HTMLElement;
  title: HTMLElement;
  search: HTMLInputElement;
  found: HTMLElement;
  stall: HTMLElement;
  range: HTMLElement;
  legend: HTMLElement;
  scroller: HTMLElement;
  labels: HTMLElement;
  minimap: Canvas;
  head: Canvas;
  body: Canvas;
  detail: HTMLElement;
  tip: HTMLElement;
  cpu: HTMLElement;
}

export interface Actions {
  next(): void;
  previous(): void;
  zoomIn(): void;
  zoomOut(): void;
  fit(): void;
  back(): void;
  worse(): void;
  lesser(): void;
  rangeOfView(): void;
}

function button(text: string, title: string, act: () => void): HTMLButtonElement {
  return h("button", { type: "button", title, "aria-label": title, onclick: act }, text);
}

export function layout(actions: Actions): Controls {
  const section = byId("timeline");
  section.hidden = false;
  const title = h("span");
  const search = h("input", { type: "search", id: "search", autocomplete: "off", spellcheck: "false", placeholder: "function, task, object, cause …" });
  const found = h("span", { class: "found", role: "status" });
  const stall = h("span", { class: "found", role: "status" });
  const range = h("div", { class: "range", role: "status" });
  const legend = h("div", { class: "legend", role: "group", "aria-label": "Kinds of waits that are shown" });
  const minimap = new Canvas({ class: "minimap", "aria-hidden": "true" });
  const head = new Canvas({ class: "head", "aria-hidden": "true" });
  const body = new Canvas({
    tabindex: "0",
    role: "application",
    "aria-roledescription": "timeline",
    "aria-label": "Workers by time. Left and right go through stalls, worst first; comma and full stop through the waits of a thread; up and down through threads; W, A, S, D zoom and move.",
  });
  const labels = h("div", { class: "labels" });
  const scroller = h("div", { class: "tl-scroll" }, labels, body.element);
  const cpu = h("div", { class: "side" }, "CPU share");
  const detail = h("aside", { id: "detail", "aria-label": "Details of what is selected", tabindex: "0", hidden: true });
  const tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  section.append(
    h("h2", {}, "Timeline ", title),
    h(
      "div",
      { class: "controls" },
      h("span", { class: "group" }, h("label", { for: "search" }, "Search"), search, button("‹", "The match before (Shift N)", actions.previous), button("›", "The next match (N)", actions.next), found),
      h("span", { class: "group" }, button("‹", "The worse stall (arrow left)", actions.worse), h("span", { class: "label" }, "Stalls"), button("›", "The next stall, worst first (arrow right)", actions.lesser), stall),
      h(
        "span",
        { class: "group" },
        button("+", "Zoom in (W)", actions.zoomIn),
        button("−", "Zoom out (S)", actions.zoomOut),
        button("Fit", "Fit: all of the recording (F)", actions.fit),
        button("Back", "Back: what was in view before (Z)", actions.back),
        button("Range = view", "Range = view: tables of what is in view (R)", actions.rangeOfView),
      ),
    ),
    legend,
    range,
    h(
      "div",
      { class: "tl" },
      h(
        "div",
        { class: "tl-main" },
        h("div", { class: "tl-row" }, h("div", { class: "side" }, "Whole recording"), minimap.element),
        h("div", { class: "tl-row" }, cpu, head.element),
        scroller,
      ),
      detail,
    ),
    tip,
  );
  minimap.resize(1, MINIMAP);
  head.resize(1, CPU + RULER);
  return { section, title, search, found, stall, range, legend, scroller, labels, minimap, head, body, detail, tip, cpu };
}

/** Names of rows, beside the canvas. */
export function labelRows(controls: Controls, model: Model, store: Store, rows: readonly Row[], height: number): void {
  const { labels } = controls;
  labels.style.height = `${height}px`;
  labels.replaceChildren(
    ...rows.map((row) => {
      const element = h("div", { class: `label-row is-${row.kind}` });
      element.style.top = `${row.top}px`;
      element.style.height = `${row.height}px`;
      if (row.kind === "lane") {
        const { name, process, role } = row.lane;
        element.title = `${name}${process ? ` of ${process}` : ""}, ${role}`;
        element.append(h("span", {}, name));
      } else if (row.kind === "runtime") {
        const { id, workers } = model.names.runtimes[row.runtime];
        element.title = model.names.runtimes[row.runtime].title;
        element.append(h("b", {}, id), ` ${workers === 1 ? "1 worker" : `${workers} workers`}`);
      } else {
        const { others } = store.view;
        const text = `${row.isOpen ? "▾" : "▸"} ${row.count} other ${row.count === 1 ? "thread" : "threads"}`;
        element.append(h("button", { type: "button", class: "quiet", "aria-expanded": String(row.isOpen), onclick: () => store.set({ others: !others }) }, text));
      }
      return element;
    }),
  );
}

/** Which kinds of waits there are, each a button that hides it; and what else has a colour. */
export function fillLegend(controls: Controls, model: Model, store: Store): void {
  const times = new Map<number, number>();
  for (const fold of model.names.folds) {
    const group = model.groupOf(fold.state, fold.cause);
    times.set(group, (times.get(group) ?? 0) + fold.blocked);
  }
  for (const group of model.usedGroups()) if (!times.has(group)) times.set(group, 0);
  const used = [...times].sort((a, b) => Number(a[0] >= model.groups.causes) - Number(b[0] >= model.groups.causes) || b[1] - a[1]);
  const { hidden } = store.view;
  controls.legend.replaceChildren(
    ...used.map(([group]) => {
      const toggle = () => {
        const changed = new Set(store.view.hidden);
        if (!changed.delete(group)) changed.add(group);
        store.set({ hidden: changed });
      };
      const dot = h("i", { class: `dot ${group < model.groups.causes ? "c" : "s"}-${model.groupName(group)}` });
      const isShown = String(!hidden.has(group));
      return h("button", { type: "button", class: "chip", "aria-pressed": isShown, onclick: toggle }, dot, model.groupLabel(group));
    }),
    ...[["s-runnable", "in line for a CPU"], ["s-running", "a poll that computes"], ["starved", "no task could run"], ["no-driver", "nobody waited for events"]].map(([color, text]) =>
      h("span", { class: "key" }, h("i", { class: `dot ${color}` }), text),
    ),
  );
}
