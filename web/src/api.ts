// What the server answers; the paths are those of /api/openapi.json.

import type { Affine } from './affine';

/** By whose vectors a slide is taken apart. */
export type StainVectors = 'h-dab' | 'h-e' | 'h-dab-ruifrok' | 'h-e-ruifrok';

/** `virtual` names what made it, where its file says that it is a virtual stain. */
export interface SlideLine {
  id: string;
  name: string;
  case: string;
  marker: string;
  version: string;
  virtual: string | null;
}

export interface Slide extends SlideLine {
  width: number;
  height: number;
  mpp: number | null;
  levels: number;
  tile_px: number;
  stains: StainVectors;
  stains_doubt: string | null;
  input_doubt: string | null;
  exemplar_doubt: string | null;
  associated: string[];
  tissue: string; // the same for slides that lie on each other
}

/** How a slide lies on the first around a place; `by` says how that is known, `bends` that it lies otherwise elsewhere. */
export interface Beside {
  affine: Affine;
  by: string;
  is_guess: boolean;
  bends: boolean;
  is_kept: boolean;
}

/** How far landmarks are off, and which one the others speak against. */
export interface Fitted {
  residuals_um: number[];
  rms_um: number;
  doubtful: number | null;
  beside: Beside;
}

/** A number, or null where it is not known. */
type Maybe = number | null;

/** Whence the DAB density comes above which a nucleus is positive; empty in an H&E. */
export type ThresholdSource = 'found' | 'fixed' | '';

/** What the nuclei of a place say; scores with the ends of their interval of 95 %. */
interface NucleusNumbers extends Record<'positive_nuclei_percent' | 'h_score', Maybe>, Record<`${'positive_nuclei_percent' | 'h_score'}_${'low' | 'high'}`, Maybe> {
  nuclei: Maybe;
  positive_nuclei: Maybe;
  nuclei_threshold_od10: Maybe;
  nuclei_threshold_source: ThresholdSource;
  nuclei_doubt: string;
}

/** The numbers of a region in a slide, or why there are none. */
export interface Numbers extends Partial<NucleusNumbers>, Partial<Record<'area_um2' | 'tissue_percent' | 'measured_mpp' | 'positive_percent' | 'above_threshold_percent' | 'mean_od10' | 'miod_od10' | 'pixel_h_score' | 'nuclei_per_mm2', Maybe>> {
  region: number;
  name: string;
  slide: string;
  error?: string;
  why?: string;
}

/** The nuclei in a box of a slide: each outline as x and y by turns in level-0 pixels, and 1 where it is positive. */
export interface NucleiInView extends NucleusNumbers {
  nuclei: number;
  outlines: number[][];
  positive: (0 | 1)[];
}

/** Regions of a GeoJSON file, and what of it was left out. */
export interface Imported {
  regions: { name: string; geometry: { type: string; coordinates: unknown }; properties: Record<string, unknown> }[];
  left_out: string[];
}

export type WorkState = 'waiting' | 'running' | 'done' | 'failed' | 'cancelled' | 'interrupted';

/** What the server was asked to make of a slide: a part of it, or, without location and size, all of it. */
interface Asked {
  id: string;
  slide: string;
  state: WorkState;
  error: string;
  command: string;
  python: string;
}

export interface Trial extends Asked {
  location: [number, number];
  size: [number, number];
  options: string[];
}

export interface Stain extends Asked {
  name: string;
  stainer: string;
  location: [number, number] | null;
  size: [number, number] | null;
  dials: Record<string, number>;
  fill: boolean;
  output: string;
  told: Told;
}

/** What a result's file says: by which source it is stained where it is, and how much tissue is unlike the exemplar's. */
export interface Told {
  where?: { source: string; claim: string; levels?: Record<string, number> } | null;
  unlike_fraction?: number;
}

/** What can say where a look stains, and what that may claim. */
export interface WhereLine {
  id: string;
  name: string;
  claim: string;
  classes: string[]; // of regions in a file
}

/** How far work is: steps, or blocks, of how many. */
export interface Progress {
  step: number;
  of: number;
  seconds: number;
  seconds_left?: number | null;
  losses?: number[];
  preview?: number;
}

/** A number that can be set of a measured look. */
export interface Dial {
  name: string;
  low: number;
  high: number;
  step: number;
  default: number;
}

export interface Stainer {
  id: string;
  name: string;
  target_stain: string;
  claim: string;
  generator: boolean;
  asks_mpp: boolean;
  value_range: string;
  mpp: number | null;
  problem: string;
  dials: Dial[];
}

export interface About {
  version: string;
  notice: string;
  presets: string[];
  default_preset: string;
}

export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** What the server answers; throws Refused with its words, or plain words where there is no server. */
async function answered(path: string, options: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(`/api/${path}`, options);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refused(0, 'Chromogen does not answer. Is `chromogen view` still running? What is open stays open.');
  }
  if (!answer.ok) throw new Refused(answer.status, await words(answer));
  return answer;
}

/** The JSON at a path below /api. */
export async function ask<T>(path: string, options: RequestInit = {}): Promise<T> {
  const answer = await answered(path, options);
  return answer.status === 204 ? (undefined as T) : ((await answer.json()) as T);
}

const posted = (body: unknown, method = 'POST'): RequestInit => ({ method, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });

export const post = <T>(path: string, body: unknown = {}): Promise<T> => ask<T>(path, posted(body));

export const put = <T>(path: string, body: unknown): Promise<T> => ask<T>(path, posted(body, 'PUT'));

/** The picture that the server makes of what is asked, as an address of this page. */
export const pictureOf = async (path: string, body: unknown): Promise<string> => URL.createObjectURL(await (await answered(path, posted(body))).blob());

const SPOKEN: Record<string, string> = { mpp: 'pixel size', style: 'exemplar', content: 'H&E', slide: 'slide', geometry: 'region' };

/** A sentence that is meant for callers of a function, for people who press buttons. */
function inPlainWords(detail: string): string {
  const parts = /^Expected `([^`]+)` to be (.*?), got (.*?)(?:; (.*?))?\.?$/s.exec(detail);
  if (!parts) return detail;
  const [, name, wanted, got, advice] = parts;
  const then = advice ? ` ${advice[0].toUpperCase()}${advice.slice(1)}.` : '';
  return `The ${SPOKEN[name] ?? name} should be ${wanted}. Here it is: ${got}.${then}`;
}

async function words(answer: Response): Promise<string> {
  try {
    const { detail } = await answer.json();
    if (typeof detail === 'string') return inPlainWords(detail);
    return `The request was not understood: ${detail?.[0]?.msg ?? answer.statusText}.`;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

export const tileUrl = (slide: Slide, level: number, x: number, y: number): string =>
  `/api/slides/${slide.id}/tiles/${level}/${x}/${y}.jpg?v=${slide.version}`;

export const densityUrl = (slide: Slide, stains: StainVectors, level: number, x: number, y: number): string =>
  `/api/slides/${slide.id}/densities/${level}/${x}/${y}.png?stains=${stains}&v=${slide.version}`;

export const differenceUrl = (slide: Slide, other: Slide, stains: StainVectors[], placed: Affine, level: number, x: number, y: number): string =>
  `/api/slides/${slide.id}/differences/${other.id}/${level}/${x}/${y}.png?stains=${stains[0]}&stains=${stains[1]}&v=${slide.version}-${other.version}` +
  `&placed=${placed.flat().map((value) => value.toPrecision(6)).join('_').slice(0, 64)}`;

export const besidePath = (first: Slide, other: Slide): string => `slides/${first.id}/beside/${other.id}`;

export const nucleiPath = (slide: Slide, stains: StainVectors, [left, top]: [number, number], [width, height]: [number, number]): string =>
  `slides/${slide.id}/nuclei?stains=${stains}&left=${left}&top=${top}&width=${width}&height=${height}`;
