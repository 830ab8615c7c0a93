// The report's page: what is drawn by script.

import { read } from "./data";
import { Detail } from "./detail";
import { announce, append, byId, h, replace, Theme } from "./dom";
import { Flame } from "./flame";
import { count, counted, duration, instant } from "./format";
import { Help } from "./help";
import { Input } from "./input";
import { fillLegend, labelRows, layout, type Controls } from "./layout";
import { Model } from "./model";
import { Overview } from "./overview";
import { longestOf } from "./search";
import { starved, stalls, type Stall, type Starved } from "./stalls";
import { RuntimeCards, SiteTable } from "./tables";
import { themeButton } from "./theme";
import { rowsOf, Timeline } from "./timeline";
import { ofFragment, Store, toFragment, type Limits, type Selection, type View } from "./view";

class Page {
  private readonly store: Store;
  private readonly limits: Limits;
  private readonly controls: Controls;
  private readonly timeline: Timeline;
  private readonly overview: Overview;
  private readonly detail: Detail;
  private readonly flame: Flame;
  private readonly table: SiteTable;
  private readonly cards: RuntimeCards;
  private readonly input: Input;
  private found: Stall[] = [];
  private writing = 0;
  private isDrawing = false;

  constructor(
    private readonly model: Model,
    private readonly theme: Theme,
    help: Help,
  ) {
    const { names } = model;
    this.limits = {
      end: model.end,
      waits: model.waits.length,
      polls: model.polls.length,
      runtimes: names.runtimes.length,
      sites: names.sites.length,
      groups: model.groups.length,
    };
    this.store = new Store(model.end);
    const { store } = this;
    store.view = ofFragment(location.hash, this.limits);
    const middle = () => (store.view.time.from + store.view.time.to) / 2;
    this.controls = layout({
      next: () => this.input.match(true),
      previous: () => this.input.match(false),
      zoomIn: () => store.zoom(0.5, middle()),
      zoomOut: () => store.zoom(2, middle()),
      fit: () => store.fit(),
      back: () => store.goBack(),
      worse: () => this.input.stall(-1),
      lesser: () => this.input.stall(1),
      rangeOfView: () => store.set({ range: { ...store.view.time } }),
    });
    const { controls } = this;
    controls.cpu.textContent = `CPU share of ${counted(names.cpus, "CPU", "CPUs")}`;
    for (const note of names.notes) controls.section.append(h("p", { class: "note" }, note));
    this.timeline = new Timeline(model, store, theme, controls.body);
    this.overview = new Overview(model, store, theme, controls.minimap, controls.head);
    this.detail = new Detail(model, store, controls.detail);
    this.flame = new Flame(model, store, theme);
    this.table = new SiteTable(model, store, (site) => this.showLongest(site));
    this.cards = new RuntimeCards(model, store);
    this.input = new Input({
      model,
      store,
      timeline: this.timeline,
      stalls: () => this.found,
      spanOf: (selection) => this.detail.spanOf(selection),
      search: controls.search,
      canvas: controls.body.element,
      minimap: controls.minimap.element,
      hasLetters: () => help.hasLetters,
      toggleHelp: () => help.toggle(),
      redraw: () => this.redraw(),
      tip: (selection, x, y) => this.tip(selection, x, y),
    });
    this.listen();
  }

  private listen(): void {
    const { store, controls } = this;
    store.listen((changed) => this.update(changed));
    let typing = 0;
    controls.search.addEventListener("input", () => {
      clearTimeout(typing);
      typing = window.setTimeout(() => store.set({ query: controls.search.value }), 120);
    });
    controls.scroller.addEventListener("scroll", () => {
      this.timeline.scrolled = controls.scroller.scrollTop;
      this.redraw();
    });
    new ResizeObserver(() => this.drawAll()).observe(controls.section);
    window.addEventListener("hashchange", () => {
      if (location.hash.replace(/^#/, "") === toFragment(store.view, this.model.end)) return;
      store.set(ofFragment(location.hash, this.limits));
    });
  }

  /** Draws everything for the first time. */
  begin(): void {
    const keys = Object.keys(this.store.view) as (keyof View)[];
    this.update(new Set(keys), true);
  }

  /** What takes longer than a first look should: when no task could run. */
  finish(): void {
    const all: Starved[] = this.model.names.runtimes.map((_, runtime) => starved(this.model, runtime));
    this.timeline.starved = this.overview.starved = this.cards.starved = this.detail.starved = all;
    this.found = stalls(this.model, all);
    this.overview.forget();
    if (this.store.view.range !== null) this.cards.draw();
    this.told();
    this.redraw();
  }

  private update(changed: Set<keyof View>, isFirst = false): void {
    const { view } = this.store;
    const has = (...keys: (keyof View)[]) => keys.some((key) => changed.has(key));
    if (has("query", "site", "hidden")) {
      const isAll = view.query === "" && view.site === null && view.hidden.size === 0;
      if (!isFirst || !isAll) this.model.match(view.query, view.site, view.hidden);
      if (has("query") && this.controls.search.value !== view.query) this.controls.search.value = view.query;
    }
    if (has("hidden")) fillLegend(this.controls, this.model, this.store);
    if (has("others")) this.rows();
    if (has("selection", "site")) {
      this.detail.draw();
      if (!isFirst) announce(this.detail.said());
    }
    if (has("selection")) this.scrollToSelection();
    if (has("range", "hidden") && !isFirst) this.flame.rebuild();
    if (has("range") && (!isFirst || view.range !== null)) {
      this.table.recount();
      this.cards.draw();
    }
    if (has("range", "filter", "state", "sort", "hidden", "site")) this.table.arrange();
    this.told();
    this.drawTimeline();
    if (has("range", "hidden", "query", "flame")) this.flame.draw();
    if (!isFirst) this.write();
  }

  private rows(): void {
    const { timeline, controls } = this;
    timeline.rows = rowsOf(this.model, this.store.view.others);
    labelRows(controls, this.model, this.store, timeline.rows, timeline.height);
  }

  private scrollToSelection(): void {
    const { selection } = this.store.view;
    const row = selection === null ? undefined : this.timeline.rowOf(selection);
    if (!row) return;
    const { scroller } = this.controls;
    if (row.top < scroller.scrollTop + 24) scroller.scrollTop = Math.max(0, row.top - 24);
    const bottom = row.top + row.height;
    if (bottom > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = bottom - scroller.clientHeight;
    this.timeline.scrolled = scroller.scrollTop;
  }

  /** Draws the timeline before the next frame. */
  private redraw(): void {
    if (this.isDrawing) return;
    this.isDrawing = true;
    requestAnimationFrame(() => this.drawTimeline());
  }

  private drawTimeline(): void {
    this.isDrawing = false;
    const { controls, timeline } = this;
    const width = controls.minimap.element.parentElement?.clientWidth ?? 0;
    const side = controls.cpu.offsetWidth;
    const room = controls.scroller.clientWidth - side;
    if (width < 2 || room < 2) return;
    timeline.draw(room, Math.min(timeline.height, controls.scroller.clientHeight || timeline.height));
    this.overview.draw(room);
  }

  private drawAll(): void {
    this.drawTimeline();
    this.flame.draw();
  }

  /** The theme has changed. */
  recolor(): void {
    this.theme.forget();
    this.overview.forget();
    this.drawAll();
  }

  /** What stands beside the controls. */
  private told(): void {
    const { controls, model } = this;
    const { view } = this.store;
    const { from, to } = view.time;
    const step = (to - from) / 1_000;
    controls.title.textContent = `${instant(from, step)} to ${instant(to, step)} · ${duration(to - from)} of ${duration(model.end)} · ${counted(model.waits.length, "wait", "waits")}`;
    const isAll = view.query === "" && view.site === null && view.hidden.size === 0;
    controls.found.textContent = isAll ? "" : counted(model.matches, "match", "matches");
    const at = this.input.stallAt();
    controls.stall.textContent = this.found.length === 0 ? "none" : at < 0 ? count(this.found.length) : `${count(at + 1)} of ${count(this.found.length)}`;
    this.rangeTold();
  }

  private rangeTold(): void {
    const { range, site } = this.store.view;
    const parts: (Node | string)[] = [];
    if (range !== null) {
      const step = (range.to - range.from) / 1_000;
      parts.push(
        h("b", {}, "Range"),
        ` ${instant(range.from, step)} to ${instant(range.to, step)} (${duration(range.to - range.from)}): tables and flamegraph are of it `,
        h("button", { type: "button", onclick: () => this.store.reveal(range.from, range.to, true) }, "Zoom to it"),
        h("button", { type: "button", onclick: () => this.store.set({ range: null }) }, "All of the recording"),
      );
    }
    if (site !== null) {
      const { name } = this.model.names.sites[site];
      parts.push(h("b", {}, "Only"), ` ${name} `, h("button", { type: "button", onclick: () => this.store.set({ site: null }) }, "All sites"));
    }
    const wanted = `${range?.from}-${range?.to} ${site}`;
    if (this.controls.range.dataset["of"] === wanted) return;
    this.controls.range.dataset["of"] = wanted;
    replace(this.controls.range, ...parts);
  }

  private showLongest(site: number): void {
    const found = longestOf(this.model, site);
    if (found === null) {
      announce("no wait of this site is known one by one");
      return;
    }
    this.input.select({ kind: "wait", index: found });
    this.controls.section.scrollIntoView({ block: "start" });
    this.controls.body.element.focus({ preventScroll: true });
  }

  private tip(selection: Selection | null, x: number, y: number): void {
    const { tip } = this.controls;
    tip.hidden = selection === null;
    if (selection === null) return;
    tip.textContent = this.timeline.tip(selection);
    const left = Math.min(x + 14, window.innerWidth - tip.offsetWidth - 8);
    tip.style.transform = `translate(${Math.max(8, left)}px, ${y + 18}px)`;
  }

  /** Writes the view into the address, not more often than browsers like it. */
  private write(): void {
    clearTimeout(this.writing);
    this.writing = window.setTimeout(() => {
      const fragment = toFragment(this.store.view, this.model.end);
      if (location.hash.replace(/^#/, "") !== fragment) history.replaceState(null, "", `#${fragment}`);
    }, 200);
  }
}

async function main(): Promise<void> {
  document.body.append(h("p", { id: "said", class: "sr", "aria-live": "polite" }));
  const help = new Help();
  const theme = new Theme();
  let page: Page | null = null;
  append(byId("tools"), [
    themeButton(() => page?.recolor()),
    h("button", { type: "button", id: "help", onclick: () => help.toggle() }, "Keys ", h("kbd", {}, "?")),
  ]);
  const element = byId("data");
  const data = await read(element.textContent ?? "");
  element.remove();
  page = new Page(new Model(data), theme, help);
  page.begin();
  document.documentElement.dataset["drawn"] = String(Math.round(performance.now()));
  // The first picture is on the screen before the rest is computed.
  const begun = page;
  requestAnimationFrame(() =>
    setTimeout(() => {
      begun.finish();
      document.documentElement.dataset["finished"] = String(Math.round(performance.now()));
    }),
  );
}

main().catch((error: unknown) => {
  console.error(error);
  const text = error instanceof Error ? error.message : String(error);
  const section = byId("timeline");
  section.hidden = false;
  section.append(h("p", { class: "note", role: "alert" }, `The timeline could not be drawn: ${text}`));
});
