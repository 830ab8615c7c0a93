// Elements. Text is only ever set as text.

type Child = Node | string | null | undefined | false;
type Attributes = Record<string, string | number | boolean | ((event: never) => void) | undefined>;

/** An element with attributes (`onclick` and its like are listeners) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value as EventListener);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, String(value));
  }
  append(element, children);
  return element;
}

export function append(element: Element, children: Child[]): void {
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

export function replace(element: Element, ...children: Child[]): void {
  element.replaceChildren();
  append(element, children);
}

export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no #${id}`);
  return element;
}

/** Says something to those who hear the page. */
export function announce(text: string): void {
  const said = document.getElementById("said");
  if (said !== null) said.textContent = text;
}

/** A canvas with as many pixels as the screen has for it. */
export class Canvas {
  readonly element: HTMLCanvasElement;
  readonly context: CanvasRenderingContext2D;
  width = 1;
  height = 1;
  scale = 1;

  constructor(attributes: Attributes) {
    this.element = h("canvas", attributes);
    const context = this.element.getContext("2d");
    if (context === null) throw new Error("this browser draws no canvas");
    this.context = context;
  }

  /** Takes a size in CSS pixels; clears the canvas. */
  resize(width: number, height: number): void {
    this.scale = Math.min(3, Math.max(1, window.devicePixelRatio || 1));
    this.width = Math.max(1, Math.floor(width));
    this.height = Math.max(1, Math.floor(height));
    const [w, hh] = [Math.round(this.width * this.scale), Math.round(this.height * this.scale)];
    const { element } = this;
    if (element.width !== w || element.height !== hh) {
      element.width = w;
      element.height = hh;
      element.style.width = `${this.width}px`;
      element.style.height = `${this.height}px`;
    } else {
      this.context.setTransform(1, 0, 0, 1, 0, 0);
      this.context.clearRect(0, 0, w, hh);
    }
    this.context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
  }
}

/** Colours of the style, as the theme has them. */
export class Theme {
  private known = new Map<string, string>();
  private probe = h("i", { hidden: true });

  constructor() {
    document.body.append(this.probe);
  }

  forget(): void {
    this.known.clear();
  }

  /** A colour as `rgb(…)`, by the name of its variable. */
  color(name: string): string {
    let color = this.known.get(name);
    if (color === undefined) {
      this.probe.style.color = `var(--${name})`;
      color = getComputedStyle(this.probe).color;
      this.known.set(name, color);
    }
    return color;
  }

  /** The same as a word of four bytes, as pixels are. */
  word(name: string): number {
    const [red = 0, green = 0, blue = 0] = (this.color(name).match(/[\d.]+/g) ?? []).map(Number);
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  }
}
