// What the server answers; the paths are those of /api/openapi.json.

import { toRows, type Affine } from './affine';
import type { JobLine as Job, SlideFacts as Slide, Stains as StainVectors } from './server';

export type * from './server';
export type { Job, Slide, StainVectors };
export type { StainerLine as Stainer } from './server';

/** A part of a slide, in its level-0 pixels. */
export interface Box {
  location: [number, number];
  size: [number, number];
}

/** A region as GeoJSON has it; `properties` of an imported one are given back. */
export interface Region {
  name: string;
  geometry: { type: string; coordinates: unknown };
  properties?: { classification?: { name?: string; color?: number[] } };
}

/** Regions of a file, and what of it was left out. */
export interface Imported {
  regions: Region[];
  left_out: string[];
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

/** The answer to what is asked, as it is. */
export const answerTo = (path: string, body: unknown): Promise<Response> => answered(path, posted(body));

/** What the server makes of a file. */
export const upload = <T>(path: string, file: File): Promise<T> =>
  ask<T>(path, { method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: file });

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

/** `placed` is another where the slides lie otherwise. */
export function differenceUrl(slides: [Slide, Slide], stains: StainVectors[], placed: Affine, level: number, x: number, y: number): string {
  const [slide, other] = slides;
  const lies = toRows(placed).flat().map((value) => value.toPrecision(6)).join('_').slice(0, 64);
  return `/api/slides/${slide.id}/differences/${other.id}/${level}/${x}/${y}.png?stains=${stains.join('&stains=')}&v=${slide.version}-${other.version}&placed=${lies}`;
}

export const jobUrl = (job: Job, name: string): string => `/api/jobs/${job.id}/${name}`;

export const besidePath = (first: Slide, other: Slide): string => `slides/${first.id}/beside/${other.id}`;

export const nucleiPath = (slide: Slide, stains: StainVectors, [left, top]: [number, number], [width, height]: [number, number]): string =>
  `slides/${slide.id}/nuclei?stains=${stains}&left=${left}&top=${top}&width=${width}&height=${height}`;
