// What the keys do, and whether single keys do anything.

import { h } from "./dom";

const KEYS: [string[], string][] = [
  [["W", "S"], "zoom in and out"],
  [["A", "D"], "move left and right"],
  [["F"], "fit: all of the recording"],
  [["Z"], "back to what was in view before"],
  [["→", "←"], "the next stall, worst first, and the one before"],
  [[".", ","], "the next and the last wait of the thread"],
  [["↓", "↑"], "the next thread and the one before (in the timeline)"],
  [["Enter"], "zoom to what is selected"],
  [["/"], "search"],
  [["Enter", "N"], "the next match"],
  [["Shift", "N"], "the match before"],
  [["R"], "tables and flamegraph of what is in view"],
  [["Esc"], "close, or take back: search, range, selection"],
  [["?"], "this help"],
];

const POINTER: [string, string][] = [
  ["wheel over the timeline", "zoom; with Shift, move"],
  ["drag over the timeline", "choose a range: tables and flamegraph are of it"],
  ["Shift and drag", "move"],
  ["click", "what is known of a stretch"],
  ["double click", "zoom to it"],
];

export class Help {
  readonly dialog: HTMLDialogElement;
  private readonly letters: HTMLInputElement;

  constructor() {
    this.letters = h("input", { type: "checkbox", id: "letters" });
    this.letters.checked = true;
    const keys = h("dl", { class: "keys" });
    for (const [of, what] of KEYS) {
      const dt = h("dt");
      of.forEach((key, at) => dt.append(at > 0 ? " " : "", h("kbd", {}, key)));
      keys.append(h("div", {}, dt, h("dd", {}, what)));
    }
    const pointer = h("dl", { class: "keys" });
    for (const [of, what] of POINTER) pointer.append(h("div", {}, h("dt", {}, of), h("dd", {}, what)));
    this.dialog = h(
      "dialog",
      { "aria-labelledby": "help-title" },
      h(
        "form",
        { method: "dialog" },
        h("h2", { id: "help-title" }, "Keys"),
        keys,
        h("h3", {}, "Pointer"),
        pointer,
        h("p", {}, this.letters, " ", h("label", { for: "letters" }, "single keys do this; without, only those in the timeline")),
        h("p", {}, "The address holds what is in view: a link to it shows the same."),
        h("button", { type: "submit" }, "Close"),
      ),
    );
    document.body.append(this.dialog);
  }

  get hasLetters(): boolean {
    return this.letters.checked;
  }

  toggle(): void {
    if (this.dialog.open) this.dialog.close();
    else this.dialog.showModal();
  }
}
