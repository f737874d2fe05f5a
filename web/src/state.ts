// What a link to this view says, after the # and so never in a server's log: slides, place, layout, layers.

import { FIRST_THRESHOLD_OD10, MAX_THRESHOLD_OD10, OVERLAYS, type OverlayKind } from './density';
import type { View } from './pane';
import { LABEL } from './virtual';
import { MODES, MAX_PANES, type Mode } from './panes';

export interface Shared {
  slides: string[];
  mode: Mode;
  view: View | null;
  split: number; // of the curtain, or of the fade, in percent
  overlay: OverlayKind;
  threshold: number;
  layers: string[]; // virtual stains that lie on the slides
  isVirtual: boolean; // whether a virtual stain is in view; whoever opens the link sees it by itself
}

export function readHash(hash: string): Shared {
  const said = new URLSearchParams(hash.replace(/^#/, ''));
  const number = (name: string): number => Number(said.get(name) ?? NaN);
  const list = (name: string, form: RegExp): string[] => (said.get(name) ?? '').split(',').filter((id) => form.test(id));
  const view = { x: number('x'), y: number('y'), zoom: number('z'), rotation: number('r') || 0, isFlipped: said.has('f') };
  const whole = [view.x, view.y, view.zoom].every(Number.isFinite) && view.zoom > 0;
  const [threshold, split] = [number('t'), number('c')];
  return {
    slides: list('s', /^[0-9a-f]{16}$/).slice(0, MAX_PANES),
    mode: MODES.find((mode) => mode === said.get('m')) ?? 'side',
    view: whole ? view : null,
    split: split >= 0 && split <= 100 ? split : 50,
    overlay: (Object.keys(OVERLAYS) as OverlayKind[]).find((kind) => kind === said.get('o')) ?? 'none',
    threshold: threshold >= 0 && threshold <= MAX_THRESHOLD_OD10 ? threshold : FIRST_THRESHOLD_OD10,
    layers: list('l', /^\d{8}-\d{6}-[0-9a-f]{6}$/),
    isVirtual: said.has('note'),
  };
}

export function writeHash(shared: Shared): string {
  const said = new URLSearchParams({ s: shared.slides.join(','), m: shared.mode });
  if (shared.view) {
    said.set('x', shared.view.x.toFixed(0));
    said.set('y', shared.view.y.toFixed(0));
    said.set('z', shared.view.zoom.toPrecision(4));
    if (shared.view.rotation) said.set('r', shared.view.rotation.toFixed(0));
    if (shared.view.isFlipped) said.set('f', '1');
  }
  if (shared.split !== 50) said.set('c', shared.split.toFixed(0));
  if (shared.overlay !== 'none') {
    said.set('o', shared.overlay);
    said.set('t', shared.threshold.toFixed(2));
  }
  if (shared.layers.length) said.set('l', shared.layers.join(','));
  if (shared.isVirtual) said.set('note', LABEL.toLowerCase().replace(/\W+/g, '-'));
  return `#${said.toString().replaceAll('%2C', ',')}`;
}

/** A token after the #, as the server prints it; it is taken out of the address at once. */
export function takeToken(): string | null {
  const token = new URLSearchParams(location.hash.replace(/^#/, '')).get('token');
  if (token) history.replaceState(null, '', location.pathname);
  return token;
}
