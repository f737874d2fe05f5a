// What a link to this view says, after the # and so never in a server's log: slides, place, layout, overlay.

import { FIRST_THRESHOLD_OD10, MOST_THRESHOLD_OD10, OVERLAY_KINDS, type OverlayKind } from './density';
import type { View } from './pane';
import { LABEL } from './virtual';
import { MODES, MOST_PANES, type Mode } from './panes';

export interface Shared {
  slides: string[];
  mode: Mode;
  view: View | null;
  overlay: OverlayKind;
  threshold: number;
  isVirtual: boolean; // whether a virtual stain is among the slides; whoever opens the link sees it by itself
}

export function readHash(hash: string): Shared {
  const said = new URLSearchParams(hash.replace(/^#/, ''));
  const number = (name: string): number => Number(said.get(name) ?? NaN);
  const view = { x: number('x'), y: number('y'), zoom: number('z'), rotation: number('r') || 0 };
  const whole = [view.x, view.y, view.zoom].every(Number.isFinite) && view.zoom > 0;
  const threshold = number('t');
  return {
    slides: (said.get('s') ?? '').split(',').filter((id) => /^[0-9a-f]{16}$/.test(id)).slice(0, MOST_PANES),
    mode: MODES.find((mode) => mode === said.get('m')) ?? 'side',
    view: whole ? view : null,
    overlay: OVERLAY_KINDS.find((kind) => kind === said.get('o')) ?? 'none',
    threshold: threshold >= 0 && threshold <= MOST_THRESHOLD_OD10 ? threshold : FIRST_THRESHOLD_OD10,
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
  }
  if (shared.overlay !== 'none') {
    said.set('o', shared.overlay);
    said.set('t', shared.threshold.toFixed(2));
  }
  if (shared.isVirtual) said.set('note', LABEL.toLowerCase().replace(/\W+/g, '-'));
  return `#${said.toString().replaceAll('%2C', ',')}`;
}

/** A token after the #, as the server prints it; it is taken out of the address at once. */
export function takeToken(): string | null {
  const token = new URLSearchParams(location.hash.replace(/^#/, '')).get('token');
  if (token) history.replaceState(null, '', location.pathname);
  return token;
}
