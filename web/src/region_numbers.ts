// Regions and their numbers: what is shown of them, and files of them, GeoJSON and CSV.

import type { NucleiInView, Numbers, StainVectors } from './api';
import { short } from './dom';
import { LABEL, VIRTUAL } from './virtual';

export interface Region {
  name: string;
  geometry: { type: string; coordinates: unknown };
  properties?: Record<string, unknown>; // of an imported one, to be given back
}

/** A slide as it was measured: with which vectors, who chose them, and how it lay on the first. */
export interface MeasuredSlide {
  id: string;
  name: string;
  virtual: string | null;
  stains: StainVectors;
  stainsChosen: boolean;
  stainsDoubt: string | null;
  mpp: number | null;
  by: string;
  isGuess: boolean;
  laidOver: boolean;
}

/** Numbers, and what they depend on, as it was when they were asked for. */
export interface Measurement {
  threshold: number;
  slides: MeasuredSlide[];
  numbers: Numbers[];
}

const SUPPOSED_MPP = 0.5; // the server's, where a file states none

export const COLUMNS: [keyof Numbers, string, number][] = [
  ['positive_nuclei_percent', '% of nuclei positive', 1],
  ['h_score', 'H-score of nuclei', 0],
  ['nuclei', 'nuclei', 0],
  ['nuclei_per_mm2', 'nuclei per mm² of tissue', 0],
  ['nuclei_threshold_od10', 'positive: DAB above', 2],
  ['above_threshold_percent', '% above', 1],
  ['positive_percent', '% positive (0.20)', 1],
  ['miod_od10', 'mIOD', 3],
  ['pixel_h_score', 'pixel H-score', 1],
  ['tissue_percent', '% tissue', 1],
  ['area_um2', 'area, µm²', 0],
];

export const isHe = (slide: MeasuredSlide): boolean => slide.stains.startsWith('h-e');

/** Who says which stains a slide has. */
export const stainsBy = ({ stainsChosen, stainsDoubt }: MeasuredSlide): string =>
  stainsChosen ? 'chosen by the user' : stainsDoubt ? 'recognised, not sure' : 'recognised';

/** What a reader has to know of the slides before the numbers. */
export function notes({ slides }: Measurement): string[] {
  const named = new Map<string, string[]>(); // which slides a note holds for
  for (const slide of slides) {
    const found = {
      [`${LABEL}. Its numbers measure what the stainer painted.`]: slide.virtual !== null,
      [`not sure of its stains: ${slide.stainsDoubt}. Choose them behind its badge.`]: slide.stainsDoubt && !slide.stainsChosen,
      [`lies on the first slide ${slide.by}.`]: slide.isGuess,
      [`no pixel size in the file; ${SUPPOSED_MPP} µm is assumed.`]: slide.mpp === null,
      [`the numbers are those of the slide, not of the ${VIRTUAL.toLowerCase()} that is laid over it.`]: slide.laidOver,
    };
    for (const [words, holds] of Object.entries(found)) if (holds) named.set(words, [...(named.get(words) ?? []), short(slide.name)]);
  }
  return [...named].map(([words, names]) => `${names.join(', ')}: ${words}`);
}

/** Why numbers are missing, or not to be relied on. */
export function whyOf(line: Numbers): string {
  return line.error ?? [line.why, line.nuclei_doubt].filter(Boolean).join('; ');
}

/** Regions as annotations with their numbers as measurements, and how these came about. */
export function geojson(regions: Region[], measured: Measurement | null): string {
  const features = regions.map((region, index) => {
    const lines = measured?.numbers.filter((line) => line.region === index) ?? [];
    return {
      type: 'Feature',
      geometry: region.geometry,
      properties: { objectType: 'annotation', ...region.properties, name: region.name, ...annotated(lines, measured) },
    };
  });
  const chromogen = measured && { threshold_od10: measured.threshold, slides: measured.slides.map(described) };
  return JSON.stringify({ type: 'FeatureCollection', features, ...(chromogen ? { chromogen } : {}) }, null, 1);
}

/** Measurements, and as metadata, which QuPath shows, what they are of. */
function annotated(lines: Numbers[], measured: Measurement | null): object {
  const measurements: Record<string, number> = {};
  const metadata: Record<string, string> = {};
  for (const line of lines) {
    const slide = measured!.slides.find(({ id }) => id === line.slide)!;
    const name = slide.virtual === null ? slide.name : `${slide.name} (${VIRTUAL})`;
    for (const [key, value] of Object.entries(line))
      if (typeof value === 'number' && key !== 'region') measurements[`${name}: ${key}`] = value;
    for (const [key, value] of Object.entries({ ...described(slide), why: whyOf(line) }))
      if (key !== 'slide' && value !== '') metadata[`${name}: ${key}`] = value;
  }
  return { measurements, metadata };
}

/** What any export says of a slide. */
function described(slide: MeasuredSlide): Record<string, string> {
  return {
    slide: slide.name,
    virtual_stain: slide.virtual ?? '',
    notice: slide.virtual === null ? '' : LABEL,
    stains: slide.stains,
    stains_by: stainsBy(slide),
    stains_doubt: slide.stainsDoubt ?? '',
    pixel_size: slide.mpp ? 'of the file' : `not in the file, ${SUPPOSED_MPP} um assumed`,
    placed: slide.by,
  };
}

/** A line for each region and slide. */
export function csv({ threshold, slides, numbers }: Measurement): string {
  const ends = ['positive_nuclei_percent', 'h_score'].flatMap((name) => [`${name}_low`, `${name}_high`]);
  const more = ['measured_mpp', 'mean_od10', 'positive_nuclei', ...ends, 'nuclei_threshold_source'];
  const keys = [...more, ...COLUMNS.map(([key]) => key)] as (keyof Numbers)[];
  const header = ['region', ...Object.keys(described(slides[0])), 'threshold_od10', ...keys, 'why'];
  const rows = numbers.map((line) => {
    const slide = slides.find(({ id }) => id === line.slide)!;
    return [line.name, ...Object.values(described(slide)), threshold, ...keys.map((key) => line[key] ?? ''), whyOf(line)];
  });
  return [header, ...rows].map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n';
}

export const shown = (value: unknown, digits: number): string =>
  typeof value === 'number' ? value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }) : '–';

/** The interval of 95 % of a number, where it has one. */
export function intervalOf(line: Numbers | NucleiInView, key: string, digits: number): string {
  const [low, high] = [`${key}_low`, `${key}_high`].map((end) => line[end as 'h_score']);
  return typeof low === 'number' ? `${shown(low, digits)} to ${shown(high, digits)}` : '';
}

// A cell that a spreadsheet would take for a formula is given as text.
const cell = (value: unknown): string => {
  const text = String(value);
  const safe = typeof value === 'string' && /^[=+\-@\t]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
