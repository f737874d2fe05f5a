// Affine maps between the level-0 pixels of slides, and between those and the screen.

/** Rows [a, b, c]: a x + b y + c. */
export type Affine = [[number, number, number], [number, number, number]];
export type Place = [number, number];

export const IDENTITY: Affine = [[1, 0, 0], [0, 1, 0]];

export const moved = ([[a, b, c], [d, e, f]]: Affine, [x, y]: Place): Place => [a * x + b * y + c, d * x + e * y + f];

/** The map that does `first`, then `second`. */
export function after(second: Affine, first: Affine): Affine {
  const origin = moved(second, moved(first, [0, 0]));
  const [right, down] = ([[1, 0], [0, 1]] as Place[]).map((unit) => moved(second, moved(first, unit)));
  return fromCorners(origin, right, down);
}

/** The map of (0, 0), (1, 0) and (0, 1) to these places. */
export const fromCorners = ([x, y]: Place, [rightX, rightY]: Place, [downX, downY]: Place): Affine => [
  [rightX - x, downX - x, x],
  [rightY - y, downY - y, y],
];

export function inverse([[a, b, c], [d, e, f]]: Affine): Affine {
  const size = a * e - b * d;
  return [
    [e / size, -b / size, (b * f - c * e) / size],
    [-d / size, a / size, (c * d - a * f) / size],
  ];
}

/** How far a map turns (degrees) and scales, after it has mirrored left and right or not. */
export interface Pose {
  turn: number;
  scale: number;
  isMirrored: boolean;
}

export function poseOf([[a, b], [d, e]]: Affine): Pose {
  const isMirrored = a * e - b * d < 0;
  const handed = isMirrored ? -1 : 1;
  const turn = (180 / Math.PI) * Math.atan2(handed * d - b, handed * a + e);
  return { turn, scale: Math.sqrt(Math.abs(a * e - b * d)), isMirrored };
}

/** The map with this pose that brings one place to another. */
export function fromPose({ turn, scale, isMirrored }: Pose, from: Place, to: Place): Affine {
  const [cos, sin] = [scale * Math.cos((turn * Math.PI) / 180), scale * Math.sin((turn * Math.PI) / 180)];
  const handed = isMirrored ? -1 : 1;
  const linear: Affine = [[handed * cos, -sin, 0], [handed * sin, cos, 0]];
  const [x, y] = moved(linear, from);
  return [[handed * cos, -sin, to[0] - x], [handed * sin, cos, to[1] - y]];
}

export const inSvg = ([[a, b, c], [d, e, f]]: Affine): string => `matrix(${[a, d, b, e, c, f].join(' ')})`;
