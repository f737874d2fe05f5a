// Affine maps between the level-0 pixels of slides, and between those and the screen: the browser's own matrices.

import type { Beside, Box, Region } from './api';

export type Affine = DOMMatrix;
export type Place = [number, number];

/** As the server has it: rows [a, b, c], a x + b y + c. */
type Rows = Beside['affine'];

export const fromRows = ([[a, b, c], [d, e, f]]: Rows): Affine => new DOMMatrix([a, d, b, e, c, f]);
export const toRows = ({ a, b, c, d, e, f }: Affine): Rows => [[a, c, e], [b, d, f]];

export const moved = ({ a, b, c, d, e, f }: Affine, [x, y]: Place): Place => [a * x + c * y + e, b * x + d * y + f];

/** How far a map turns (degrees) and scales, after it has mirrored left and right or not. */
export interface Pose {
  turn: number;
  scale: number;
  isMirrored: boolean;
}

export function poseOf({ a, b, c, d }: Affine): Pose {
  const size = a * d - b * c;
  const handed = Math.sign(size);
  const turn = (180 / Math.PI) * Math.atan2(handed * b - c, handed * a + d);
  return { turn, scale: Math.sqrt(Math.abs(size)), isMirrored: handed < 0 };
}

/** The map with this pose that brings one place to another. */
export const fromPose = ({ turn, scale, isMirrored }: Pose, from: Place, to: Place): Affine =>
  new DOMMatrix().translate(...to).rotate(turn).scale(isMirrored ? -scale : scale, scale).translate(-from[0], -from[1]);

/** The box in whole pixels about these places, as far as it lies on a slide. */
export function boxAround(places: Place[], { width, height }: { width: number; height: number }): Box {
  const [[x, w], [y, h]] = [width, height].map((most, axis) => {
    const at = places.map((place) => place[axis]);
    const [low, high] = [Math.max(0, Math.floor(Math.min(...at))), Math.min(most, Math.ceil(Math.max(...at)))];
    return [low, high - low];
  });
  return { location: [x, y], size: [w, h] };
}

/** The rings of a GeoJSON geometry. */
export const ringsOf = ({ type, coordinates }: Region['geometry']): Place[][] =>
  type === 'MultiPolygon' ? (coordinates as Place[][][]).flat() : (coordinates as Place[][]);
