// The flamegraph: blocked time by stack, of the whole recording or of a range of time.

import { countStacks } from "./counts";
import { announce, byId, Canvas, h, type Theme } from "./dom";
import { counted, duration, percent } from "./format";
import type { Model } from "./model";
import { fit } from "./timeline";
import type { Store } from "./view";

const ROW = 18;
const ROWS = 200;

interface Node {
  /** A number among its siblings: for the first two levels of its own kind, then that of the frame. */
  key: number;
  name: string;
  place: string | null;
  color: string;
  kind: string;
  value: number;
  waits: number;
  parent: Node | null;
  children: Map<number, Node>;
}

interface Box {
  node: Node;
  x: number;
  width: number;
  depth: number;
}

export class Flame {
  private readonly canvas: Canvas;
  private readonly said = h("p", { class: "flame-said", role: "status" });
  private readonly reset: HTMLButtonElement;
  private readonly heading = h("span");
  private root: Node;
  private boxes: Box[] = [];
  private focus: Node | null = null;
  private hover: Node | null = null;

  constructor(
    private readonly model: Model,
    private readonly store: Store,
    private readonly theme: Theme,
  ) {
    this.canvas = new Canvas({
      tabindex: "0",
      role: "application",
      "aria-roledescription": "flamegraph",
      "aria-label": "Flamegraph of blocked time. Arrow keys move between frames, Enter zooms, Backspace zooms out.",
    });
    this.reset = h("button", { type: "button", onclick: () => store.set({ flame: [] }) }, "Zoom out");
    const section = byId("flame");
    section.hidden = false;
    section.append(
      h("h2", {}, "Flamegraph of waits ", this.heading),
      h("div", { class: "controls" }, this.reset, this.legend()),
      this.said,
      h("div", { class: "flame-box" }, this.canvas.element),
    );
    this.root = this.tree();
    const { element } = this.canvas;
    element.addEventListener("pointermove", (event) => this.point(event));
    element.addEventListener("pointerleave", () => this.pointAt(null));
    element.addEventListener("click", (event) => {
      this.point(event);
      if (this.hover) this.zoom(this.hover);
    });
    element.addEventListener("keydown", (event) => this.key(event));
    element.addEventListener("blur", () => this.draw());
    element.addEventListener("focus", () => this.draw());
  }

  private legend(): HTMLElement {
    const list = h("ul", { class: "legend", "aria-label": "Colours of frames" });
    for (const { name, color } of this.model.names.kinds) {
      const dot = h("i", { class: "dot" });
      dot.style.background = color;
      list.append(h("li", {}, dot, name));
    }
    return list;
  }

  /** Builds the tree of what is to be drawn. */
  rebuild(): void {
    this.root = this.tree();
    this.focus = null;
    this.hover = null;
  }

  private tree(): Node {
    const { names } = this.model;
    const root: Node = { key: -1, name: "all waits", place: null, color: "", kind: "", value: 0, waits: 0, parent: null, children: new Map() };
    const child = (parent: Node, key: number, of: () => Pick<Node, "name" | "place" | "color" | "kind">): Node => {
      let node = parent.children.get(key);
      if (!node) {
        node = { key, value: 0, waits: 0, parent, children: new Map(), ...of() };
        parent.children.set(key, node);
      }
      return node;
    };
    const add = (runtime: number | null, state: number, frames: number[], value: number, waits: number) => {
      const pool = names.states[state] === "pool" ? "blocking pool" : "no runtime";
      const title = runtime === null || runtime < 0 ? pool : names.runtimes[runtime].root;
      const top = runtime === null || runtime < 0 ? (pool === "no runtime" ? 0 : 1) : runtime + 2;
      let node = child(root, top, () => ({ name: title, place: null, color: "", kind: "runtime" }));
      const path = [node];
      node = child(node, state, () => ({ name: names.states[state], place: null, color: `s-${names.states[state]}`, kind: "state" }));
      path.push(node);
      for (const frame of frames) {
        const [name, kind, color, place] = names.frames[frame];
        node = child(node, frame, () => ({ name, place, color, kind: names.kinds[kind].name }));
        path.push(node);
      }
      for (const of of [root, ...path]) {
        of.value += value;
        of.waits += waits;
      }
    };
    const { range, hidden } = this.store.view;
    const isShown = (state: number, cause: number | null) => !hidden.has(this.model.groupOf(state, cause));
    if (range === null) {
      for (const { runtime, state, cause, frames, blocked, waits } of names.folds) {
        if (isShown(state, cause)) add(runtime, state, frames, blocked, waits);
      }
    } else {
      const other = names.states.indexOf("other");
      for (const { runtime, stack, blocked, waits } of countStacks(this.model, range)) {
        const of = names.stacks[stack - 1];
        if (of.state !== other && isShown(of.state, of.cause)) add(runtime, of.state, of.drawn, blocked, waits);
      }
    }
    return root;
  }

  /** The node that the view is zoomed to. */
  private zoomed(): Node {
    let node = this.root;
    for (const key of this.store.view.flame) {
      const next = node.children.get(key);
      if (!next) break;
      node = next;
    }
    return node;
  }

  private zoom(node: Node): void {
    const path: number[] = [];
    for (let of: Node | null = node; of !== null && of.parent !== null; of = of.parent) path.unshift(of.key);
    this.focus = node;
    this.store.set({ flame: path });
  }

  private layout(width: number): void {
    this.boxes = [];
    const zoomed = this.zoomed();
    const above: Node[] = [];
    for (let of = zoomed.parent; of !== null; of = of.parent) above.unshift(of);
    above.forEach((node, depth) => this.boxes.push({ node, x: 0, width, depth }));
    const place = (node: Node, x: number, size: number, depth: number) => {
      if (depth >= ROWS) return;
      this.boxes.push({ node, x, width: size, depth });
      const children = [...node.children.values()].sort((a, b) => b.value - a.value || (a.name < b.name ? -1 : 1));
      let left = x;
      for (const child of children) {
        const part = (child.value / node.value) * size;
        if (part >= 0.3) place(child, left, part, depth + 1);
        left += part;
      }
    };
    if (zoomed.value > 0) place(zoomed, 0, width, above.length);
  }

  private top(depth: number, depths: number): number {
    return (this.model.names.icicle ? depth : depths - 1 - depth) * ROW;
  }

  private depths(): number {
    return Math.max(1, ...this.boxes.map((box) => box.depth + 1));
  }

  draw(): void {
    const box = this.canvas.element.parentElement;
    const width = box?.clientWidth ?? 0;
    if (width < 2) return;
    this.layout(width);
    const depths = this.depths();
    this.canvas.resize(width, depths * ROW);
    const { context } = this.canvas;
    const query = this.store.view.query.trim().toLowerCase();
    const hasFocus = document.activeElement === this.canvas.element;
    const focus = this.focus ?? this.zoomed();
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    let matched = 0;
    for (const { node, x, width: size, depth } of this.boxes) {
      const top = this.top(depth, depths);
      const isMatch = query !== "" && node.parent !== null && `${node.name} ${node.place ?? ""}`.toLowerCase().includes(query);
      if (isMatch && !this.isBelowMatch(node, query)) matched += node.value;
      context.globalAlpha = query === "" || isMatch ? 1 : 0.35;
      context.fillStyle = this.colorOf(node, isMatch);
      context.fillRect(x, top, Math.max(0.5, size - (size > 3 ? 1 : 0)), ROW - 1);
      context.globalAlpha = 1;
      if (size >= 28) {
        const text = fit(context, node.name, size - 8);
        context.fillStyle = query === "" || isMatch ? this.theme.color("on-fill") : this.theme.color("text");
        if (text !== "") context.fillText(text, x + 4, top + ROW / 2);
      }
      if (node === this.hover || (hasFocus && node === focus)) {
        context.strokeStyle = this.theme.color("text");
        context.lineWidth = 2;
        context.strokeRect(x + 1, top + 1, Math.max(1, size - 3), ROW - 3);
      }
    }
    this.reset.disabled = this.store.view.flame.length === 0;
    const share = query === "" || this.root.value === 0 ? "" : `, ${percent(matched / this.root.value)} of it in frames that match`;
    this.heading.textContent = this.root.value === 0 ? "none" : `${duration(this.root.value)}${this.store.view.range ? " in the range" : ""}${share}`;
  }

  private isBelowMatch(node: Node, query: string): boolean {
    for (let of = node.parent; of !== null && of.parent !== null; of = of.parent) {
      if (`${of.name} ${of.place ?? ""}`.toLowerCase().includes(query)) return true;
    }
    return false;
  }

  private colorOf(node: Node, isMatch: boolean): string {
    if (isMatch) return this.theme.color("match");
    if (node.color === "") return this.theme.color("root-fill");
    return node.color.startsWith("#") ? node.color : this.theme.color(node.color);
  }

  private point(event: MouseEvent): void {
    const depths = this.depths();
    const [x, y] = [event.offsetX, event.offsetY];
    const found = this.boxes.find((box) => {
      const top = this.top(box.depth, depths);
      return y >= top && y < top + ROW && x >= box.x && x < box.x + box.width;
    });
    this.pointAt(found?.node ?? null);
  }

  private pointAt(node: Node | null): void {
    if (node === this.hover) return;
    this.hover = node;
    this.said.textContent = node === null ? "" : this.text(node);
    this.draw();
  }

  private text(node: Node): string {
    const place = node.place === null ? "" : ` (${node.place})`;
    const share = percent(node.value / Math.max(1, this.root.value));
    return `${node.name}${place}: ${duration(node.value)}, ${share}, ${counted(node.waits, "wait", "waits")}`;
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const node = this.focus ?? this.zoomed();
    const next = this.neighbour(node, event.key);
    if (event.key === "Enter" || event.key === " ") this.zoom(node);
    else if (event.key === "Backspace") this.zoom(this.zoomed().parent ?? this.root);
    else if (next !== undefined) this.focus = next ?? node;
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.said.textContent = this.text(this.focus ?? node);
    announce(this.said.textContent);
    this.draw();
  }

  /** The frame that an arrow leads to; none where there is none there, nothing for other keys. */
  private neighbour(node: Node, key: string): Node | null | undefined {
    const ordered = (of: Node) => [...of.children.values()].sort((a, b) => b.value - a.value || (a.name < b.name ? -1 : 1));
    const outward = this.model.names.icicle ? "ArrowUp" : "ArrowDown";
    const inward = this.model.names.icicle ? "ArrowDown" : "ArrowUp";
    if (key === outward) return node.parent;
    if (key === inward) return ordered(node)[0] ?? null;
    if (key !== "ArrowLeft" && key !== "ArrowRight") return undefined;
    const siblings = node.parent ? ordered(node.parent) : [node];
    const at = siblings.indexOf(node) + (key === "ArrowLeft" ? -1 : 1);
    return siblings[at] ?? null;
  }
}
