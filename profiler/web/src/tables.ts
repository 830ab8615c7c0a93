// The tables of the page: sorted, filtered, and counted anew for a range of time.

import { countSites, countStates, type SiteCount } from "./counts";
import { append, byId, h, replace } from "./dom";
import { count, counted, duration, instant, percent } from "./format";
import type { Model } from "./model";
import { starvedWithin, type Starved } from "./stalls";
import type { Store } from "./view";

type Key = "total" | "share" | "harm" | "waits" | "p50" | "p99" | "max" | "cause" | "state" | "name";

const SVG = "http://www.w3.org/2000/svg";

/** Who shows a site's longest wait. */
export type ShowLongest = (site: number) => void;

export class SiteTable {
  private readonly rows: HTMLTableRowElement[];
  private readonly heads = new Map<Key, HTMLTableCellElement>();
  private readonly filter: HTMLInputElement;
  private readonly state: HTMLSelectElement;
  private readonly shown = h("p", { class: "note", role: "status" });
  private counts: (SiteCount | null)[] | null = null;

  constructor(
    private readonly model: Model,
    private readonly store: Store,
    private readonly longest: ShowLongest,
  ) {
    const section = byId("sites");
    this.rows = [...section.querySelectorAll<HTMLTableRowElement>("tbody tr")];
    for (const head of section.querySelectorAll<HTMLTableCellElement>("th[data-key]")) this.head(head);
    this.rows.forEach((row, index) => this.actions(row, index));
    this.filter = h("input", { type: "search", id: "site-filter", autocomplete: "off", spellcheck: "false" });
    this.filter.addEventListener("input", () => store.set({ filter: this.filter.value }));
    this.state = h("select", { id: "site-state" }, h("option", { value: "" }, "all states"));
    const used = new Set(model.names.sites.map((site) => site.state));
    for (const state of [...used].sort((a, b) => a - b)) {
      const name = model.names.states[state];
      this.state.append(h("option", { value: name }, name));
    }
    this.state.addEventListener("change", () => store.set({ state: this.state.value }));
    append(byId("site-controls"), [
      h("label", { for: "site-filter" }, "Filter "),
      this.filter,
      h("label", { for: "site-state" }, "State "),
      this.state,
      this.shown,
    ]);
  }

  private head(cell: HTMLTableCellElement): void {
    const key = cell.dataset["key"] as Key;
    const label = cell.textContent ?? "";
    const sort = () => {
      const { sort } = this.store.view;
      const isText = key === "name" || key === "cause" || key === "state";
      const isSame = sort?.key === key;
      this.store.set({ sort: { key, descending: isSame ? !sort.descending : !isText } });
    };
    replace(cell, h("button", { type: "button", class: "sort", onclick: sort }, label));
    this.heads.set(key, cell);
  }

  private actions(row: HTMLTableRowElement, index: number): void {
    const details = row.querySelector("details");
    const list = details?.querySelector("dl");
    if (!details || !list) return;
    const only = () => this.store.set({ site: this.store.view.site === index ? null : index });
    const paragraph = h(
      "p",
      { class: "actions" },
      h("button", { type: "button", onclick: () => this.longest(index) }, "Longest wait"),
      h("button", { type: "button", class: "only", "aria-pressed": "false", onclick: only }, "Only this site in the timeline"),
    );
    details.insertBefore(paragraph, list);
  }

  recount(): void {
    const { range } = this.store.view;
    this.counts = range === null ? null : countSites(this.model, range);
    const all = this.whole();
    this.rows.forEach((row, index) => {
      const { total, waits, p50, p99, max, harm } = this.figures(index);
      const texts = [
        duration(total),
        percent(total / Math.max(1, all)),
        this.counts === null && harm > 0 ? duration(harm) : "–",
        count(waits),
        duration(p50),
        duration(p99),
        duration(max),
      ];
      texts.forEach((text, column) => {
        const cell = row.cells[column];
        if (cell.textContent !== text) cell.textContent = text;
      });
    });
  }

  private figures(index: number): SiteCount & { harm: number } {
    const site = this.model.names.sites[index];
    const none = { total: 0, waits: 0, p50: 0, p99: 0, max: 0 };
    return this.counts === null ? site : { ...(this.counts[index] ?? none), harm: 0 };
  }

  private whole(): number {
    return this.model.names.sites.reduce((sum, _, index) => sum + this.figures(index).total, 0);
  }

  private value(index: number, key: Key): number | string {
    const site = this.model.names.sites[index];
    const figures = this.figures(index);
    switch (key) {
      case "name":
        return site.name;
      case "cause":
        return this.model.names.causes[site.cause];
      case "state":
        return this.model.names.states[site.state];
      case "share":
        return figures.total;
      case "harm":
        return site.harm;
      default:
        return figures[key];
    }
  }

  arrange(): void {
    const { view } = this.store;
    const { sites, states } = this.model.names;
    const order = sites.map((_, index) => index);
    const { sort } = view;
    if (sort !== null && this.heads.has(sort.key as Key)) {
      const sign = sort.descending ? -1 : 1;
      const values = order.map((index) => this.value(index, sort.key as Key));
      order.sort((a, b) => {
        const [one, other] = [values[a], values[b]];
        return (one < other ? -sign : one > other ? sign : 0) || a - b;
      });
    }
    for (const [key, cell] of this.heads) {
      if (sort?.key === key) cell.setAttribute("aria-sort", sort.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    if (this.filter.value !== view.filter) this.filter.value = view.filter;
    if (this.state.value !== view.state) this.state.value = view.state;
    const wanted = view.filter.trim().toLowerCase();
    let visible = 0;
    const body = this.rows[0]?.parentElement;
    for (const index of order) {
      const row = this.rows[index];
      const site = sites[index];
      const group = this.model.groupOf(site.state, site.cause);
      const isShown =
        (wanted === "" || site.text.toLowerCase().includes(wanted)) &&
        (view.state === "" || states[site.state] === view.state) &&
        !view.hidden.has(group) &&
        (this.counts === null || this.counts[index] !== null);
      row.hidden = !isShown;
      visible += isShown ? 1 : 0;
      row.classList.toggle("only-this", view.site === index);
      row.querySelector(".only")?.setAttribute("aria-pressed", String(view.site === index));
      body?.append(row);
    }
    const of = view.range === null ? "" : `, waits from ${instant(view.range.from, 1e5)} to ${instant(view.range.to, 1e5)}`;
    this.shown.textContent = `${count(visible)} of ${counted(sites.length, "site", "sites")}${of}`;
  }
}

/** The bars of the runtimes. */
export class RuntimeCards {
  private readonly cards: { runtime: number; card: HTMLElement; whole: Node[] }[];
  starved: Starved[] = [];

  constructor(
    private readonly model: Model,
    private readonly store: Store,
  ) {
    const all = [...document.querySelectorAll<HTMLElement>("article.runtime")];
    this.cards = all.map((card) => ({
      runtime: Number(card.dataset["runtime"]),
      card,
      whole: [...card.childNodes].map((node) => node.cloneNode(true)),
    }));
  }

  draw(): void {
    const { range } = this.store.view;
    for (const { runtime, card, whole } of this.cards) {
      if (range === null) {
        card.replaceChildren(...whole.map((node) => node.cloneNode(true)));
        continue;
      }
      const { states, whole: time } = countStates(this.model, runtime, range);
      const list = h("dl", { class: "states" });
      const bar = document.createElementNS(SVG, "svg");
      for (const [name, value] of [["class", "bar"], ["viewBox", "0 0 1000 10"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) {
        bar.setAttribute(name, value);
      }
      let x = 0;
      for (const state of ["blocked", "runtime", "running", "runnable", "idle", "stopped", "unknown", "other", "pool", "handed-off"]) {
        const of = states.get(state) ?? 0;
        if (of === 0 && !["blocked", "running", "runnable", "idle"].includes(state)) continue;
        const share = of / Math.max(1, time);
        const rect = document.createElementNS(SVG, "rect");
        for (const [name, value] of [["class", `s-${state}`], ["x", x.toFixed(2)], ["width", (share * 1_000).toFixed(2)], ["height", "10"]]) {
          rect.setAttribute(name, value);
        }
        bar.append(rect);
        x += share * 1_000;
        list.append(
          h(
            "div",
            {},
            h("dt", {}, h("i", { class: `dot s-${state}` }), label(state)),
            h("dd", {}, percent(share)),
            h("dd", { class: "dim" }, duration(of)),
          ),
        );
      }
      const starved = this.starved[runtime];
      const halted = starved ? starvedWithin(starved, range.from, range.to) : 0;
      const heading = h("h3", {}, `${this.model.names.runtimes[runtime].title} `, h("span", {}, `from ${instant(range.from, 1e5)} to ${instant(range.to, 1e5)}`));
      const facts = h("dl", { class: "facts-list" });
      facts.append(h("div", {}, h("dt", {}, "no task could run"), h("dd", {}, `${duration(halted)} (${percent(halted / (range.to - range.from))})`)));
      facts.append(h("div", {}, h("dt", {}, "note"), h("dd", {}, "of single waits; what ran is estimated, and short waits are with idle")));
      card.replaceChildren(heading, bar, list, facts);
    }
  }
}

function label(state: string): string {
  if (state === "runnable") return "waiting CPU";
  return state === "runtime" ? "in tokio" : state;
}
