// What says on the page, and in pictures taken of it, that a stain is virtual.

import { make } from './dom';

export const VIRTUAL = 'VIRTUAL STAIN';
export const NOT_FOR_DIAGNOSIS = 'not for diagnosis';
export const LABEL = `${VIRTUAL} - ${NOT_FOR_DIAGNOSIS}`;

const BAND_PX = 22;
const [INK, GROUND] = ['#ffffff', '#961414'];

/** Paint a band along the upper edge of a canvas, with words again and again, so that a narrow strip shows them too. */
export function paintBand(context: CanvasRenderingContext2D, words: string, pixelRatio: number): void {
  const height = BAND_PX * pixelRatio;
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  [context.globalAlpha, context.globalCompositeOperation] = [1, 'source-over'];
  context.fillStyle = GROUND;
  context.fillRect(0, 0, context.canvas.width, height);
  context.fillStyle = INK;
  context.font = `bold ${0.62 * height}px system-ui, sans-serif`;
  context.textBaseline = 'middle';
  const step = context.measureText(words).width + 3 * height;
  for (let x = 0.4 * height; x < context.canvas.width; x += step) context.fillText(words, x, height / 2);
  context.restore();
}

/** A picture of a virtual stain, with its label over it. */
export const labelledPicture = (picture: HTMLImageElement): HTMLElement =>
  make('span', { class: 'labelled' }, picture, make('span', { class: 'picture-label', 'aria-hidden': 'true' }, LABEL));
