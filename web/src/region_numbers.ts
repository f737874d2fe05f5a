// Regions and their numbers as a table on the page, and as files: GeoJSON and CSV.

import type { Numbers } from './api';
import { make, short } from './dom';

export interface Region {
  name: string;
  geometry: { type: string; coordinates: unknown };
  properties?: Record<string, unknown>; // of an imported one, to be given back
}

/** What a table says of a slide: its name, and the stain that the threshold is for. */
export interface MeasuredSlide {
  name: string;
  stain: 'eosin' | 'DAB';
}

const COLUMNS: [keyof Numbers, string, number][] = [
  ['above_threshold_percent', '% above', 1],
  ['positive_percent', '% positive (0.20)', 1],
  ['miod_od10', 'mIOD', 3],
  ['pixel_h_score', 'pixel H-score', 1],
  ['nuclei', 'nuclei', 0],
  ['stained_nuclei', 'nuclei, brown too', 0],
  ['tissue_percent', '% tissue', 1],
  ['area_um2', 'area, µm²', 0],
];
/** The numbers of a region, a column for each slide. */
export function numbersTable(caption: string, lines: Numbers[], threshold: number, of: (slideId: string) => MeasuredSlide): HTMLElement {
  const head = lines.map((line) => make('th', { scope: 'col', title: of(line.slide).name }, short(of(line.slide).name)));
  const rows = COLUMNS.map(([key, words, digits]) => {
    const above = key === 'above_threshold_percent';
    const cells = lines.map((line) => make('td', {}, shown(line[key], digits), above ? make('small', {}, ` ${of(line.slide).stain}`) : null));
    return make('tr', {}, make('th', { scope: 'row' }, above ? `${words} ${threshold.toFixed(2)}` : words), ...cells);
  });
  const why = lines.filter((line) => line.why).map((line) => `${short(of(line.slide).name)}: ${line.why}`);
  return make(
    'div',
    { class: 'measured' },
    make(
      'table',
      {},
      make('caption', {}, caption),
      make('colgroup', {}, make('col', { class: 'names' }), ...lines.map(() => make('col', {}))),
      make('thead', {}, make('tr', {}, make('td', {}), ...head)),
      make('tbody', {}, ...rows),
    ),
    why.length ? make('p', { class: 'hint' }, `${why.join('; ')}.`) : null,
  );
}

/** Regions as annotations with their numbers as measurements. */
export function geojson(regions: Region[], numbers: Numbers[], nameOf: (slideId: string) => string): string {
  const features = regions.map((region, index) => {
    const measurements: Record<string, number> = {};
    for (const line of numbers.filter((found) => found.region === index))
      for (const [key, value] of Object.entries(line))
        if (typeof value === 'number' && key !== 'region') measurements[`${nameOf(line.slide)}: ${key}`] = value;
    return {
      type: 'Feature',
      geometry: region.geometry,
      properties: { objectType: 'annotation', ...region.properties, name: region.name, measurements },
    };
  });
  return JSON.stringify({ type: 'FeatureCollection', features }, null, 1);
}

/** A line for each region and slide. */
export function csv(numbers: Numbers[], threshold: number, nameOf: (slideId: string) => string): string {
  const keys = ['measured_mpp', 'mean_od10', ...COLUMNS.map(([key]) => key)] as (keyof Numbers)[];
  const header = ['region', 'slide', 'threshold_od10', ...keys, 'why'];
  const rows = numbers.map((line) => [line.name, nameOf(line.slide), threshold, ...keys.map((key) => line[key] ?? ''), line.why]);
  return [header, ...rows].map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n';
}

const shown = (value: unknown, digits: number): string =>
  typeof value === 'number' ? value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }) : '–';

// A cell that a spreadsheet would take for a formula is given as text.
const cell = (value: unknown): string => {
  const text = String(value);
  const safe = typeof value === 'string' && /^[=+\-@\t]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
