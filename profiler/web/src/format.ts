// Numbers as people read them: the same as in the text report.

function threeDigits(value: number): string {
  if (value < 9.995) return value.toFixed(2);
  if (value < 99.95) return value.toFixed(1);
  return value.toFixed(0);
}

/** `1.24 s`, `203 ms`, `81.0 µs`, `7 ns`, `12 min 03 s`. */
export function duration(nanos: number): string {
  if (nanos < 1_000) return `${Math.round(nanos)} ns`;
  const seconds = Math.floor((nanos + 500_000_000) / 1_000_000_000);
  if (seconds >= 3_600) {
    const minutes = Math.floor((seconds + 30) / 60);
    return `${count(Math.floor(minutes / 60))} h ${pad(minutes % 60)} min`;
  }
  if (seconds >= 600) return `${Math.floor(seconds / 60)} min ${pad(seconds % 60)} s`;
  for (const [unit, name] of [[1e3, "µs"], [1e6, "ms"]] as const) {
    if (nanos / unit < 999.5) return `${threeDigits(nanos / unit)} ${name}`;
  }
  return `${threeDigits(nanos / 1e9)} s`;
}

function pad(number: number): string {
  return String(number).padStart(2, "0");
}

/** `41.3 %`; `<0.1 %` where a little is left. */
export function percent(share: number): string {
  const of = share * 100;
  if (!(of > 0)) return "0 %";
  if (of < 0.1) return "<0.1 %";
  return `${of < 99.95 ? of.toFixed(1) : of.toFixed(0)} %`;
}

/** `12,345,678`. */
export function count(number: number): string {
  return String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** `1 wait`, `2 waits`. */
export function counted(number: number, one: string, many: string): string {
  return number === 1 ? `1 ${one}` : `${count(number)} ${many}`;
}

/** An instant, to the thousandth of `step`: `1.204 s`. */
export function instant(nanos: number, step: number): string {
  const digits = Math.min(9, Math.max(0, Math.ceil(-Math.log10(step / 1e9) - 1e-9)));
  return `${(nanos / 1e9).toFixed(digits)} s`;
}
