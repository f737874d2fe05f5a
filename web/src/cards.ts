// What cards of trials and stains have in common.

import OpenSeadragon from 'openseadragon';
import { ask, post, type WorkState } from './api';
import { copy, make } from './dom';
import type { Box, Pane } from './pane';
import type { Panes } from './panes';
import { LABEL } from './virtual';

export const UNDER_WAY: WorkState[] = ['waiting', 'running'];

export interface Placed extends Box {
  slide: string;
}

/** Seconds, for people. */
export function duration(seconds: number): string {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  return seconds < 6000 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export const button = (words: string, work: () => void): HTMLElement => make('button', { type: 'button', onclick: work }, words);

/** What a card needs of the page around it. */
export interface Desk {
  open: (names: string[]) => Promise<void>;
  forget: (id: string) => Promise<void>;
}

/** A card's line that says how far its work is, and the buttons that act on the work: the same for every kind. */
export class Work<Progress extends { state: WorkState }> {
  readonly element = make('li', { class: 'trial' });
  readonly line = make('p', { role: 'status', class: 'trial-state' });
  readonly buttons = make('div', { class: 'buttons' });
  readonly path: string;
  private last = '';

  constructor(
    kind: 'trials' | 'stains',
    private readonly id: string,
    private readonly everyMs: number,
    private readonly desk: Desk,
    private readonly show: (now: Progress) => void,
  ) {
    this.path = `${kind}/${id}`;
  }

  /** Ask how far it is, and show it, again and again until it has ended. */
  async watch(): Promise<void> {
    for (;;) {
      try {
        const now = await ask<Progress>(this.path);
        this.show(now);
        if (!UNDER_WAY.includes(now.state)) return;
      } catch (error) {
        this.say((error as Error).message);
      }
      await new Promise((resolve) => setTimeout(resolve, this.everyMs));
    }
  }

  say(words: string): void {
    this.line.textContent = words;
  }

  /** Say how it is; where that is news, offer what can be done now, `own` uses among it. `left`: what removal removes. */
  tell(state: WorkState, words: string, left: string, own: () => HTMLElement[]): void {
    this.say(words);
    this.element.dataset.state = state;
    if (this.last === state) return;
    this.last = state;
    const offered = own();
    if (UNDER_WAY.includes(state)) offered.unshift(button('Cancel', () => this.act(ask(this.path, { method: 'DELETE' }))));
    else if (state !== 'done') offered.unshift(button('Resume', () => this.act(post(`${this.path}/resume`))));
    if (!UNDER_WAY.includes(state)) offered.push(this.removal(state === 'done' ? 'the result' : left));
    this.buttons.replaceChildren(...offered);
  }

  /** Lay a picture over its slide, or take it away. */
  lay(inlay: Inlay, address: string): void {
    if (!inlay.toggle(address)) this.say('Its slide is not open; open it first.');
  }

  private act(asked: Promise<unknown>): void {
    void asked.then(() => this.watch()).catch((error: Error) => this.say(error.message));
  }

  /** A button that removes for good, when it is pressed again within a few seconds. */
  private removal(what: string): HTMLElement {
    let sure = 0;
    const element = button('Remove', () => {
      if (sure) return void this.remove().catch((error: Error) => this.say(error.message));
      element.textContent = `Remove ${what} for good?`;
      sure = window.setTimeout(() => {
        sure = 0;
        element.textContent = 'Remove';
      }, 5000);
    });
    return element;
  }

  private async remove(): Promise<void> {
    await post(`${this.path}/remove`);
    this.element.remove();
    await this.desk.forget(this.id);
  }
}

/** The command line and the Python that make it again. */
export function origin(where: string, command: string, python: string): HTMLDetailsElement {
  const copying = (words: string, text: string): HTMLElement => {
    const element = make('button', { type: 'button' }, words);
    element.addEventListener('click', () => void copy(text, element));
    return element;
  };
  return make(
    'details',
    { class: 'origin' },
    make('summary', {}, 'How to make it again'),
    make('p', { class: 'hint' }, where),
    make('pre', { tabindex: 0 }, command),
    make('pre', { tabindex: 0 }, python),
    make('div', { class: 'buttons' }, copying('Copy command', command), copying('Copy Python', python)),
  );
}

/** A picture of a virtual stain laid over the place of a slide that it shows, in a frame that says what it is. */
export class Inlay {
  private placed: { item: OpenSeadragon.TiledImage; pane: Pane } | null = null;
  private readonly frame = make('div', { class: 'inlay' }, make('span', { class: 'picture-label' }, LABEL));

  constructor(
    private readonly panes: Panes,
    private readonly place: Placed,
  ) {}

  /** Lay it there, or take it away if it is there; false where its slide is not open. */
  toggle(address: string): boolean {
    if (!this.isThere()) return this.lay(address, true);
    const { item, pane } = this.placed!;
    pane.viewer.world.removeItem(item);
    pane.viewer.removeOverlay(this.frame);
    pane.countInlays(-1);
    this.placed = null;
    this.panes.onChange();
    return true;
  }

  /** Another picture, if one is there. */
  renew(address: string): void {
    if (this.isThere()) this.lay(address, false);
  }

  /** Whether it lies on a slide that is still open. */
  private isThere(): boolean {
    if (this.placed && !this.panes.list.includes(this.placed.pane)) this.placed = null;
    return this.placed !== null;
  }

  private lay(address: string, go: boolean): boolean {
    const pane = this.panes.find(this.place.slide);
    if (!pane) return false;
    const [x, y] = this.place.location;
    const [w, h] = this.place.size;
    const width = pane.slide.width;
    pane.viewer.addSimpleImage({
      url: new URL(address, location.href).href,
      x: x / width,
      y: y / width,
      width: w / width,
      success: (event: unknown) => {
        if (this.isThere()) this.placed!.pane.viewer.world.removeItem(this.placed!.item);
        else {
          pane.viewer.addOverlay({ element: this.frame, location: new OpenSeadragon.Rect(x / width, y / width, w / width, h / width) });
          pane.countInlays(1);
        }
        const isNew = this.placed === null;
        this.placed = { item: (event as { item: OpenSeadragon.TiledImage }).item, pane };
        if (isNew) this.panes.onChange();
      },
    } as never);
    if (go) {
      const bounds = new OpenSeadragon.Rect((x - w / 2) / width, (y - h / 2) / width, (2 * w) / width, (2 * h) / width);
      this.panes.lead(() => pane.viewer.viewport.fitBounds(bounds));
    }
    return true;
  }
}
