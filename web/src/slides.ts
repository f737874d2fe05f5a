// The slides that there are, what is known of them, and opening them.

import { computed, signal } from '@preact/signals';
import { ask, type Refused, type Slide, type SlideLine } from './api';
import { say } from './dom';
import type { View } from './pane';
import { MAX_PANES, type Panes } from './panes';

const AT_ONCE = 2; // slides of the list that are looked at; pictures that are open need the server more
const TRIED_FIRST = 12; // slides among which the page looks for an H&E to begin with
const ROOM_PX = 700; // of the page's width, for each pane that opens by itself

export type Badge = 'H&E' | 'IHC' | 'VIRTUAL';

const MAX_OF_ONE_SIZE = 4; // slides of one size in a folder, that may be sections of one block

/** What a slide is; empty while that is not known. */
export function badgeOf(line: SlideLine, slide: Slide | string | undefined): Badge | '' {
  if (line.virtual !== null) return 'VIRTUAL';
  if (!slide || typeof slide === 'string') return '';
  return slide.stains.startsWith('h-e') ? 'H&E' : 'IHC';
}

export class Slides {
  readonly lines = signal<SlideLine[]>([]);
  readonly facts = signal<Record<string, Slide | string>>({}); // by id: the slide, or why it does not open
  readonly failed = signal(''); // why what was asked for last is not open, and nothing else is
  readonly opening = signal(''); // names of what will be open
  readonly isListed = signal(false);
  private readonly joined = computed(() => this.joinCases());
  private asked = new Map<string, Promise<Slide>>();
  begun!: () => void; // the page shows what it begins with
  private readonly start = new Promise<void>((resolve) => (this.begun = resolve));
  private readonly lanes: Promise<unknown>[] = Array(AT_ONCE).fill(this.start);
  private last: Promise<void> = Promise.resolve();
  private turn = 0; // counts what was asked to be opened

  constructor(private readonly panes: Panes) {}

  /** Ask the server which there are. */
  async list(): Promise<void> {
    this.lines.value = (await ask<SlideLine[]>('slides')).filter((line) => !line.is_copy);
    this.isListed.value = true;
  }

  find(id: string): SlideLine | undefined {
    return this.lines.value.find((line) => line.id === id);
  }

  /** What a slide is, asked for once for every version of its file. */
  know(id: string): Promise<Slide> {
    const key = this.keyOf(id);
    let asked = this.asked.get(key);
    if (!asked) {
      this.asked.set(key, (asked = ask<Slide>(`slides/${id}`)));
      const tell = (found: Slide | string): void => {
        this.facts.value = { ...this.facts.value, [id]: found };
      };
      asked.then(tell, (error: Error) => {
        this.asked.delete(key); // it may be there next time
        if ((error as Refused).status) tell(error.message);
      });
    }
    return asked;
  }

  /** What a slide is now, if the server is there and can read it: before what is open is closed for it. */
  private knowAnew(id: string): Promise<Slide> {
    this.asked.delete(this.keyOf(id));
    return this.know(id);
  }

  private keyOf(id: string): string {
    return `${id} ${this.find(id)?.version ?? ''}`;
  }

  /** Find out what a slide is, when there is time for it: the row says why where it does not open. */
  knowLater(id: string): void {
    const lane = this.lanes.shift()!;
    this.lanes.push(lane.then(() => this.know(id)).catch(() => {}));
  }

  /** The case of a slide: by its name, by a transform, or by a size that it shares with one H&E beside it. */
  caseOf({ case: name }: SlideLine): string {
    return this.joined.value[name] ?? name;
  }

  ofCase(name: string): SlideLine[] {
    return this.lines.value.filter((line) => this.caseOf(line) === name);
  }

  /** For cases that belong to another one, as far as slides are known by now, the name of that. */
  private joinCases(): Record<string, string> {
    const known = this.lines.value.map((line) => [line, this.facts.value[line.id]] as const);
    const groups = new Map<string, SlideLine[]>();
    const join = (key: string, line: SlideLine) => groups.set(key, [...(groups.get(key) ?? []), line]);
    const folder = (line: SlideLine) => line.name.slice(0, line.name.lastIndexOf('/') + 1);
    for (const [line, slide] of known) {
      if (!slide || typeof slide === 'string') continue;
      join(slide.tissue, line);
      join(`${folder(line)} ${slide.width} ${slide.height} ${slide.mpp}`, line);
    }
    const joined: Record<string, string> = {};
    for (const [key, lines] of groups) {
      if (key.includes(' ') && !this.areSections(lines)) continue;
      const [first, ...others] = lines.map((line) => joined[line.case] ?? line.case);
      for (const name of others) if (name !== first) joined[name] = first;
    }
    return joined;
  }

  /** Whether slides of one size may be sections of one block: few, with a single H&E among them. */
  private areSections(lines: SlideLine[]): boolean {
    const he = lines.filter((line) => badgeOf(line, this.facts.value[line.id]) === 'H&E');
    return lines.length <= MAX_OF_ONE_SIZE && he.length === 1;
  }

  /** What to begin with: the first H&E, beside it what belongs to it; else the first slide that opens. */
  async beginning(): Promise<string[]> {
    const tried = this.lines.value.slice(0, TRIED_FIRST);
    let other = '';
    for (const line of tried) {
      const slide = await this.know(line.id).catch(() => null);
      if (slide && !other) other = line.id;
      if (!slide || badgeOf(line, slide) !== 'H&E') continue;
      const beside = this.ofCase(this.caseOf(line)).filter(({ id }) => id !== line.id);
      const count = Math.min(2, Math.floor(innerWidth / ROOM_PX));
      const opens = await Promise.all(beside.slice(0, 4).map(({ id }) => this.know(id).then(() => id, () => '')));
      return [line.id, ...opens.filter(Boolean).slice(0, count)];
    }
    return other ? [other] : [];
  }

  /** Open these, and no others; what was asked before, and is not open yet, is left. What is open stays until then. */
  open(ids: string[], view: View | null = null): Promise<void> {
    return (this.last = this.openNow(ids, view));
  }

  private async openNow(ids: string[], view: View | null): Promise<void> {
    const turn = ++this.turn;
    this.failed.value = '';
    this.opening.value = ids.map((id) => this.find(id)?.name ?? '').join(', ');
    const found = await Promise.all(ids.map((id) => this.knowAnew(id).catch((error: Error) => error)));
    if (turn !== this.turn) return;
    const slides = found.filter((one): one is Slide => !(one instanceof Error));
    const problem = found.find((one) => one instanceof Error) as Error | undefined;
    if (problem && !slides.length && this.panes.list.length) {
      this.opening.value = '';
      return say(problem.message, true); // a slide that does not open takes none away
    }
    this.panes.clear();
    if (problem) say(problem.message, true);
    if (problem && !slides.length) this.failed.value = problem.message;
    for (const slide of slides) await this.add(slide, view, turn);
    if (turn !== this.turn) return;
    this.opening.value = '';
  }

  private async add(slide: Slide, view: View | null, turn: number): Promise<void> {
    try {
      await this.panes.add(slide, view, () => turn === this.turn);
    } catch (error) {
      if (turn === this.turn) say((error as Error).message, true);
    }
  }

  /** Lay a slide beside those that are open, or close it: after all that was asked for before. */
  toggleBeside(id: string): Promise<void> {
    return (this.last = this.last.then(() => this.toggleNow(id)));
  }

  private async toggleNow(id: string): Promise<void> {
    const pane = this.panes.find(id);
    if (pane) return this.panes.remove(pane);
    if (this.panes.list.length === MAX_PANES) return say(`At most ${MAX_PANES} slides at a time; close one first.`, true);
    try {
      this.failed.value = '';
      await this.add(await this.know(id), null, this.turn);
    } catch (error) {
      say((error as Error).message, true);
    }
  }
}
