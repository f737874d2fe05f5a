// Landmarks: places that are the same on two slides, clicked in pairs; the server finds how the slides lie by them.

import { computed, effect, signal, untracked } from '@preact/signals';
import type { Place } from './affine';
import { besidePath, post, type Fitted } from './api';
import { complain, keep, kept, say } from './dom';
import type { Pane } from './pane';
import type { Panes } from './panes';

export type Kind = 'similarity' | 'affine';
export const LEAST = 3; // pairs by which slides are laid

/** Places on the first slide and on the other; the last may lack one of both. */
interface Pair {
  first?: Place;
  other?: Place;
}

/** What is drawn of a landmark on a slide. */
export interface MarkOn {
  at: Place;
  number: number;
  isDoubtful: boolean;
}

/** What this browser keeps of two slides. */
interface Kept {
  pairs: Pair[];
  kind: Kind;
  fitted: Fitted | null; // while the slides lie as it says
}

const NOTHING: Kept = { pairs: [], kind: 'similarity', fitted: null };

export class Landmarks {
  readonly isPlacing = signal(false);
  readonly index = signal(1); // of the slide that is laid on the first
  readonly now = signal<Kept>(NOTHING);
  readonly other = computed(() => this.panes.list[this.index.value] ?? this.panes.list[1] ?? null);

  constructor(private readonly panes: Panes) {
    effect(() => {
      const { key } = this;
      untracked(() => (this.now.value = key ? kept(key, NOTHING) : NOTHING));
      if (!key) this.isPlacing.value = false;
    });
    effect(() => {
      const beside = this.other.value?.beside.value; // another way to lie takes the residuals' meaning away
      const { fitted } = this.now.peek();
      if (beside && fitted && !beside.bends && beside.affine.join() !== fitted.beside.affine.join()) this.set({ fitted: null });
    });
  }

  private get key(): string {
    const [first, other] = [this.panes.first, this.other.value];
    return first && other ? `landmarks ${first.slide.id} ${other.slide.id}` : '';
  }

  private set(changes: Partial<Kept>): void {
    this.now.value = { ...this.now.peek(), ...changes };
    keep(this.key, this.now.value);
  }

  place(isPlacing: boolean): void {
    this.isPlacing.value = isPlacing;
    if (isPlacing) this.panes.setMode('side');
    say(isPlacing ? 'Click a place on one slide, then the same place on the other. Drag still moves, the wheel zooms; Esc stops.' : '');
  }

  /** A pane was clicked at a place: the other half of a pair, or the first of a new one. */
  clicked(pane: Pane, at: Place): void {
    const side = pane === this.panes.first ? 'first' : pane === this.other.value ? 'other' : null;
    if (!this.isPlacing.value || !side) return;
    const { pairs } = this.now.value;
    const last = pairs.at(-1);
    const isOpen = last !== undefined && !(last.first && last.other);
    const changed = isOpen ? [...pairs.slice(0, -1), { ...last, [side]: at }] : [...pairs, { [side]: at }];
    this.replace(changed);
  }

  remove(index: number): void {
    this.replace(this.now.value.pairs.filter((_, i) => i !== index));
  }

  setKind(kind: Kind): void {
    this.set({ kind });
    this.replace(this.now.value.pairs);
  }

  private replace(pairs: Pair[]): void {
    const areWhole = pairs.every(({ first, other }) => first && other);
    this.set(areWhole ? { pairs, fitted: null } : { pairs });
    if (areWhole) void this.fit();
  }

  /** Lay the slides by all pairs that are whole. */
  async fit(): Promise<void> {
    const { pairs, kind } = this.now.value;
    const [first, other] = [this.panes.first, this.other.value];
    const whole = pairs.filter((pair): pair is Required<Pair> => !!pair.first && !!pair.other);
    if (!first || !other || whole.length < LEAST) return;
    try {
      const asked = { pairs: whole.map((pair) => [...pair.first, ...pair.other]), kind };
      const fitted = await post<Fitted>(`${besidePath(first.slide, other.slide)}/landmarks`, asked);
      this.set({ fitted });
      this.panes.lie(other, fitted.beside);
    } catch (error) {
      complain(error);
    }
  }

  placesOn(pane: Pane): MarkOn[] {
    const side = pane === this.panes.first ? 'first' : pane === this.other.value ? 'other' : null;
    if (!side) return [];
    const { pairs, fitted } = this.now.value;
    return pairs.flatMap((pair, index) => (pair[side] ? [{ at: pair[side], number: index + 1, isDoubtful: index === fitted?.doubtful }] : []));
  }
}
