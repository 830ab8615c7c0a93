// Light or dark: as the system has it, or as it was chosen.

import { h } from "./dom";

const CHOICES = ["auto", "light", "dark"] as const;
const KEY = "holdup-theme";

type Choice = (typeof CHOICES)[number];

function kept(): Choice {
  try {
    const known = localStorage.getItem(KEY);
    return CHOICES.find((choice) => choice === known) ?? "auto";
  } catch {
    // A page out of a file may have no storage.
    return "auto";
  }
}

/** A button that changes the theme. */
export function themeButton(changed: () => void): HTMLButtonElement {
  let choice = kept();
  const button = h("button", { type: "button", id: "theme" });
  const show = () => {
    if (choice === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = choice;
    button.textContent = `Theme: ${choice}`;
  };
  button.addEventListener("click", () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // It counts until the page is closed.
    }
    show();
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  show();
  return button;
}
