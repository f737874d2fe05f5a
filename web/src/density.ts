// Density tiles painted in the browser, so that a threshold acts at once and asks the server for nothing.
// A density tile has hundredths of base-10 optical density in red (haematoxylin) and green (the other stain), and
// 255 in blue where there is tissue; a difference tile has them around 128, and how far structure was kept in blue.

type Vectors = 'h-e' | 'h-dab';

interface Overlay {
  name: string;
  hint: string;
  isDifference?: boolean; // of two slides
  needs?: Vectors; // in slides that are taken apart so
  lacking?: string; // why it shows nothing without
}

const LAY_TWO = 'An H&E has no DAB to compare. Lay two IHC slides beside each other, or compare haematoxylin.';
const CHOOSE = (stains: string, is: string): string => `No slide that is open is taken apart as ${stains}; choose it in the bar of a slide that is ${is}.`;

export const OVERLAYS = {
  none: { name: 'None', hint: '' },
  dab: {
    name: 'DAB density (IHC)',
    hint: 'Yellow to violet: density of DAB (base 10) over tissue, above the threshold; in slides taken apart as H-DAB.',
    needs: 'h-dab',
    lacking: CHOOSE('H-DAB', 'an IHC'),
  },
  hematoxylin: { name: 'Haematoxylin density', hint: 'Yellow to violet: haematoxylin over tissue, above the threshold.' },
  eosin: {
    name: 'Eosin density (H&E)',
    hint: 'Yellow to violet: density of eosin over tissue, above the threshold; in slides taken apart as H&E.',
    needs: 'h-e',
    lacking: CHOOSE('H&E', 'one'),
  },
  tissue: { name: 'Tissue', hint: 'Green: what counts as tissue in the numbers.' },
  difference: {
    name: 'Difference of two slides: DAB',
    hint: 'Red: the second slide has more DAB than the first; blue: less. Shown above the threshold.',
    isDifference: true,
    needs: 'h-dab',
    lacking: LAY_TWO,
  },
  'difference-hematoxylin': {
    name: 'Difference: haematoxylin',
    hint: 'Red: the second slide has more haematoxylin; blue: less. Shown above the threshold.',
    isDifference: true,
  },
  kept: {
    name: 'Structure kept',
    hint: 'Red where haematoxylin of both slides correlates less than the threshold: structure not kept.',
    isDifference: true,
  },
} satisfies Record<string, Overlay>;

export type OverlayKind = keyof typeof OVERLAYS;

export const FIRST_THRESHOLD_OD10 = 0.2;
export const MAX_THRESHOLD_OD10 = 1.5;

const of = (kind: OverlayKind): Overlay => OVERLAYS[kind];
export const isDifference = (kind: OverlayKind): boolean => of(kind).isDifference ?? false;

/** Whether an overlay says something of a slide that is taken apart with these vectors. */
export const suits = (kind: OverlayKind, stains: string): boolean => stains.startsWith(of(kind).needs ?? '');

/** Why an overlay shows nothing in slides taken apart with these vectors; empty where it shows. */
export function lacking(kind: OverlayKind, stains: string[]): string {
  if (!stains.length) return '';
  if (isDifference(kind) && stains.length < 2) return 'Open a second slide beside the first to compare them.';
  const suit = stains.slice(0, isDifference(kind) ? 2 : undefined).map((one) => suits(kind, one));
  return (isDifference(kind) ? suit.every(Boolean) : suit.some(Boolean)) ? '' : (of(kind).lacking ?? '');
}

export interface Raw {
  width: number;
  height: number;
  data: Uint8ClampedArray;
}

// From yellow through orange and magenta to violet: readable on brown, on blue and on white.
const RAMP: [number, number, number][] = [
  [250, 221, 54],
  [250, 140, 40],
  [225, 50, 105],
  [150, 20, 150],
  [70, 10, 130],
];

function rampColor(at: number): number[] {
  const place = Math.min(Math.max(at, 0), 0.9999) * (RAMP.length - 1);
  const index = Math.floor(place);
  const part = place - index;
  const [a, b] = [RAMP[index], RAMP[index + 1]];
  return [...a.map((from, i) => from + (b[i] - from) * part), 255];
}

const TABLE = Array.from({ length: 256 }, (_, level) => rampColor(level / 120)); // violet from a density of 1.2 on

/** The pixels of a tile as an overlay of this kind: transparent where nothing is to be said. */
export function paint(raw: Raw, kind: OverlayKind, threshold: number): ImageData {
  const out = new ImageData(raw.width, raw.height);
  const level = Math.round(threshold * 100);
  const [from, to] = [raw.data, out.data];
  for (let i = 0; i < from.length; i += 4) {
    if (!from[i + 2]) continue; // no tissue
    const color = colorOf(kind, from[kind.endsWith('hematoxylin') ? i : i + 1], (from[i + 2] - 128) / 127, level, threshold);
    if (color) to.set(color, i);
  }
  return out;
}

/** Red, green, blue and opacity of a pixel of tissue, by its value and how far structure was kept. */
function colorOf(kind: OverlayKind, value: number, kept: number, level: number, threshold: number): number[] | null {
  if (kind === 'tissue') return [30, 160, 90, 150];
  if (kind === 'kept') return kept < threshold ? [215, 35, 35, Math.min(255, 80 + 350 * (threshold - kept))] : null;
  if (!isDifference(kind)) return value > level ? TABLE[value] : null;
  const more = value - 128;
  return Math.abs(more) > level ? [...(more > 0 ? [205, 40, 30] : [35, 70, 205]), Math.min(255, 90 + 3 * Math.abs(more))] : null;
}

const MAX_HELD = 160; // tiles of 512 px, 1 MB each
const held = new Map<string, Raw>();

/** The pixels of a tile, from memory where they were seen lately. */
export async function rawTile(url: string, signal: AbortSignal): Promise<Raw> {
  const known = held.get(url);
  if (known) {
    held.delete(url);
    held.set(url, known);
    return known;
  }
  const answer = await fetch(url, { signal });
  if (!answer.ok) throw new Error(`tile: ${answer.status}`);
  const bitmap = await createImageBitmap(await answer.blob(), { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d', { willReadFrequently: true })!;
  context.drawImage(bitmap, 0, 0);
  const raw = { width: bitmap.width, height: bitmap.height, data: context.getImageData(0, 0, bitmap.width, bitmap.height).data };
  held.set(url, raw);
  if (held.size > MAX_HELD) held.delete(held.keys().next().value!);
  return raw;
}
