// The slides that there are, to open one, or one beside another.

import { ask, type Slide, type SlideLine } from './api';
import { byId, make } from './dom';
import { VIRTUAL } from './virtual';
import type { View } from './pane';
import { MOST_PANES, type Panes } from './panes';
import type { Regions } from './regions';

const TRIALS_EXEMPLAR = /^\d{8}-\d{6}-[0-9a-f]{6}\/exemplar\.png$/; // a copy of what is elsewhere

export class SlideList {
  onList: (lines: SlideLine[]) => void = () => {};
  private lines: SlideLine[] = [];
  failed = ''; // why what was asked for last is not open, and nothing else is
  private turn = 0; // counts what was asked to be opened

  constructor(
    private readonly panes: Panes,
    private readonly regions: Regions,
  ) {}

  /** Ask the server which there are. */
  async list(): Promise<void> {
    this.lines = (await ask<SlideLine[]>('slides')).filter((line) => !TRIALS_EXEMPLAR.test(line.name));
    byId('slides-message').textContent = this.lines.length ? '' : 'No slides.';
    this.invite();
    this.show();
    this.onList(this.lines);
  }

  /** Those whose name has what is looked for. */
  show(): void {
    const wanted = byId<HTMLInputElement>('find').value.toLowerCase();
    const shown = this.lines.filter((line) => line.name.toLowerCase().includes(wanted));
    byId('slide-list').replaceChildren(...shown.map((line) => this.row(line)));
    if (this.lines.length) byId('slides-message').textContent = shown.length ? '' : 'No slide of that name.';
    this.markOpen();
  }

  private row(line: SlideLine): HTMLElement {
    const name = line.name.split('/').pop()!;
    const folder = line.name.slice(0, -name.length);
    const image = make('img', { alt: '', loading: 'lazy', src: `/api/slides/${line.id}/thumbnail.jpg?v=${line.version}` });
    image.addEventListener('error', () => image.replaceWith(make('span', { class: 'broken' }, 'cannot be read')));
    return make(
      'li',
      { 'data-id': line.id },
      make(
        'button',
        { type: 'button', class: 'open', title: line.name, onclick: () => void this.open([line.id]) },
        image,
        line.virtual === null ? null : make('span', { class: 'virtual' }, VIRTUAL),
        make('span', { class: 'name' }, folder ? make('small', {}, folder) : null, name),
      ),
      make(
        'button',
        { type: 'button', class: 'beside', 'aria-label': `${name}: beside`, title: 'Beside the slides that are open', 'aria-pressed': 'false', onclick: () => void this.toggleBeside(line.id) },
        '+',
      ),
    );
  }

  /** Show which are open. */
  markOpen(): void {
    if (!this.failed) this.invite();
    for (const item of document.querySelectorAll<HTMLElement>('#slide-list li')) {
      const open = this.panes.find(item.dataset.id!) !== undefined;
      item.classList.toggle('is-open', open);
      const beside = item.querySelector('.beside')!;
      beside.setAttribute('aria-pressed', String(open));
      beside.textContent = open ? '−' : '+';
    }
  }

  /** Open these, and no others; what was asked before, and is not open yet, is left. */
  async open(ids: string[], view: View | null = null): Promise<void> {
    const turn = ++this.turn;
    this.failed = '';
    this.panes.clear();
    this.invite();
    if (ids.length) this.announce('Opening…', ids.map((id) => this.lines.find((line) => line.id === id)?.name ?? '').join(', '));
    for (const id of ids) await this.add(id, view, turn);
    if (turn === this.turn) this.panes.onChange();
  }

  private async add(id: string, view: View | null, turn: number): Promise<void> {
    const isWanted = (): boolean => turn === this.turn;
    try {
      const slide = await ask<Slide>(`slides/${id}`);
      if (!isWanted()) return;
      const pane = await this.panes.add(slide, view, isWanted);
      if (!pane) return;
      this.regions.attach(pane);
      this.say('');
    } catch (error) {
      if (!isWanted()) return;
      this.say((error as Error).message);
      if (!this.panes.list.length) this.announce('This does not open', (this.failed = (error as Error).message));
    }
  }

  private async toggleBeside(id: string): Promise<void> {
    const pane = this.panes.find(id);
    if (pane) return this.panes.remove(pane);
    if (this.panes.list.length === MOST_PANES) return this.say(`At most ${MOST_PANES} slides at a time; close one first.`);
    await this.add(id, null, this.turn);
  }

  /** Open slides by the names, or the ends of names, that they have in the list. */
  async openByName(names: string[]): Promise<void> {
    await this.list();
    const named = (name: string): SlideLine | undefined =>
      this.lines.find((line) => line.name === name) ?? this.lines.find((line) => line.name.endsWith(name));
    const ids = names.map((name) => named(name)?.id);
    await this.open(ids.filter((id): id is string => id !== undefined));
  }

  /** Close what shows pictures of work that was removed. */
  async forget(id: string): Promise<void> {
    for (const pane of [...this.panes.list]) if (pane.slide.name.startsWith(`${id}/`)) this.panes.remove(pane);
    await this.list();
  }

  private say(words: string): void {
    byId('slides-message').textContent = words;
  }

  /** Say, where slides would be, how to open one. */
  private invite(): void {
    byId('empty').replaceChildren(byId<HTMLTemplateElement>(this.lines.length ? 'choose' : 'nothing').content.cloneNode(true));
    byId('empty').hidden = this.panes.list.length > 0;
  }

  /** What stands where slides would be. */
  private announce(title: string, words: string): void {
    const box = byId('empty');
    box.replaceChildren(make('h2', {}, title), make('p', {}, words));
    box.hidden = this.panes.list.length > 0;
  }
}
