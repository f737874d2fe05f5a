// Small words for the page.

import { effect, signal, type Signal } from '@preact/signals';

/** Give a file to the user: text, or what a canvas holds. */
export function download(name: string, content: Blob): void {
  const address = URL.createObjectURL(content);
  const link = document.createElement('a');
  [link.href, link.download] = [address, name];
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** The function, called once things have been quiet for a while. */
export function settled(work: () => void, ms: number): () => void {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = window.setTimeout(work, ms);
  };
}

/** The same of what takes a while: one at a time, and once more where it was called meanwhile. */
export function oneByOne(work: () => Promise<void>, failed: (error: Error) => void, ms: number): () => void {
  let [isBusy, isOld] = [false, false];
  const run = settled(() => {
    if (isBusy) return void (isOld = true);
    isBusy = true;
    void work().catch(failed).then(() => {
      if (isOld) run();
      [isBusy, isOld] = [false, false];
    });
  }, ms);
  return run;
}

/** A name without its folders. */
export const basename = (name: string): string => name.split('/').pop()!;

/** Words that begin with a capital. */
export const sentence = (words: string): string => words.charAt(0).toUpperCase() + words.slice(1);

/** Seconds, for people. */
export function duration(seconds: number): string {
  if (seconds < 100) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** What this browser keeps under a name; `or` where it keeps nothing, or nothing that can be read. */
export function kept<T>(name: string, or: T): T {
  try {
    return (JSON.parse(localStorage.getItem(name)!) as T) ?? or;
  } catch {
    return or;
  }
}

/** Keep a value in this browser; false where it has no room for it. */
export function keep(name: string, value: unknown): boolean {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** A signal whose value this browser keeps. */
export function keptSignal<T>(name: string, or: T): Signal<T> {
  const made = signal(kept(name, or));
  effect(() => void keep(name, made.value));
  return made;
}

/** What the page says over the picture, where the eye is; a problem stays until it is closed. */
export const notice: Signal<{ words: string; isProblem: boolean } | null> = signal(null);
let fading = 0;

export function say(words: string, isProblem = false): void {
  clearTimeout(fading);
  notice.value = words ? { words, isProblem } : null;
  if (words && !isProblem) fading = window.setTimeout(() => (notice.value = null), 7000);
}

export const complain = (error: unknown): void => say((error as Error).message, true);
