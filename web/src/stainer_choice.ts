// Which stainer is to be applied, and what it has to be told: markers, or what a generator's file does not say.

import { ask, type Stainer } from './api';
import { byId, make, short } from './dom';

export class StainerChoice {
  private stainers: Stainer[] = [];
  private shares = new Map<string, HTMLInputElement>();

  constructor() {
    byId('stainer').addEventListener('change', () => this.show());
  }

  async begin(): Promise<void> {
    this.stainers = await ask<Stainer[]>('stainers');
    const option = ({ id, name, target_stain, problem }: Stainer): HTMLElement =>
      make('option', { value: id, disabled: problem !== '', title: name }, `${short(name)}: ${problem ? 'cannot be used' : target_stain}`);
    const [own, found] = [this.stainers.filter((s) => s.id === s.name), this.stainers.filter((s) => s.id !== s.name)];
    byId('stainer').replaceChildren(
      make('optgroup', { label: 'With Chromogen' }, ...own.map(option)),
      ...(found.length ? [make('optgroup', { label: 'In your folders' }, ...found.map(option))] : []),
    );
    this.showProblems(this.stainers.filter((s) => s.problem));
    this.show();
  }

  /** Whether the list has been read. */
  get known(): boolean {
    return this.stainers.length > 0;
  }

  /** What a request says of the stainer. */
  given(): object {
    const stainer = this.chosen;
    if (!stainer) return {};
    const mpp = Number(byId<HTMLInputElement>('trained-mpp').value);
    const range = byId<HTMLSelectElement>('value-range').value;
    return {
      stainer: stainer.id,
      ...(stainer.markers.length > 1 ? { marker: this.marker() } : {}),
      ...(stainer.generator && mpp ? { trained_mpp: mpp } : {}),
      ...(stainer.generator && range ? { value_range: range } : {}),
    };
  }

  /** What is still to be told of it; empty where nothing is. */
  get lacking(): string {
    const stainer = this.chosen;
    if (!stainer) return 'Choose a stainer first.';
    if (stainer.markers.length > 1 && !this.marker()) return 'Give at least one marker a share.';
    if (stainer.generator && stainer.asks_mpp && !byId<HTMLInputElement>('trained-mpp').value)
      return 'Type in the pixel size that it was trained at: 0.5 µm for 20x, 0.25 µm for 40x.';
    return '';
  }

  /** The pixel size that it stains at, in um; null where nobody has said. */
  get mpp(): number | null {
    return this.chosen?.mpp ?? (Number(byId<HTMLInputElement>('trained-mpp').value) || null);
  }

  private get chosen(): Stainer | undefined {
    return this.stainers.find(({ id }) => id === byId<HTMLSelectElement>('stainer').value);
  }

  /** Shares as the command line takes them: `ER`, or `ER:0.7,Ki67:0.3`. */
  private marker(): string {
    const shares = [...this.shares].map(([name, slider]) => [name, Number(slider.value)] as const).filter(([, share]) => share > 0);
    const whole = shares.reduce((sum, [, share]) => sum + share, 0);
    if (shares.length === 1) return shares[0][0];
    return shares.map(([name, share]) => `${name}:${Number((share / whole).toFixed(4))}`).join(',');
  }

  private show(): void {
    const stainer = this.chosen;
    byId('stainer-claim').textContent = stainer ? `${stainer.target_stain}; ${stainer.claim || 'its file does not say how it was taught'}.` : '';
    const markers = stainer && stainer.markers.length > 1 ? stainer.markers : [];
    byId('markers').hidden = !markers.length;
    this.shares = new Map(markers.map((name, i) => [name, this.slider(i === 0)]));
    byId('marker-shares').replaceChildren(
      ...[...this.shares].map(([name, slider]) => make('label', { class: 'field' }, `${name} `, make('output', {}), slider)),
    );
    this.showShares();
    const generator = stainer?.generator ?? false;
    byId('trained-mpp-field').hidden = !(generator && stainer!.asks_mpp);
    byId('value-range-field').hidden = !generator;
    byId<HTMLSelectElement>('value-range').value = stainer?.value_range ?? '';
    if (generator && !byId<HTMLSelectElement>('value-range').value) byId<HTMLSelectElement>('value-range').value = '-1..1';
  }

  private showProblems(useless: Stainer[]): void {
    const box = byId('stainer-problems');
    box.hidden = !useless.length;
    box.querySelector('summary')!.textContent = useless.length === 1 ? '1 model cannot be used' : `${useless.length} models cannot be used`;
    box.querySelector('ul')!.replaceChildren(...useless.map((s) => make('li', {}, `${s.name}: ${s.problem}`)));
  }

  private slider(full: boolean): HTMLInputElement {
    const slider = make('input', { type: 'range', min: 0, max: 100, step: 5, value: full ? 100 : 0 });
    slider.addEventListener('input', () => this.showShares());
    return slider;
  }

  private showShares(): void {
    const values = [...this.shares.values()].map((slider) => Number(slider.value));
    const whole = values.reduce((sum, value) => sum + value, 0);
    for (const [i, slider] of [...this.shares.values()].entries())
      slider.parentElement!.querySelector('output')!.textContent = whole ? `${Math.round((100 * values[i]) / whole)} %` : '–';
    byId('markers-none').hidden = !this.shares.size || whole > 0;
  }
}
