// What says on the page, and in pictures taken of it, that a stain is virtual.

export const VIRTUAL = 'VIRTUAL STAIN';
export const NOT_FOR_DIAGNOSIS = 'not for diagnosis';
export const LABEL = `${VIRTUAL} - ${NOT_FOR_DIAGNOSIS}`;

const BAND_PX = 22;
const [MOST, LEAST, ASIDE] = [0.62, 0.4, 0.4]; // of the band's height: its letters, and what is free beside them
const [INK, GROUND] = ['#ffffff', '#961414'];

/** Run `work` on a canvas as it is by itself: no turn, no opacity. */
function plainly(context: CanvasRenderingContext2D, work: () => void): void {
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  [context.globalAlpha, context.globalCompositeOperation] = [1, 'source-over'];
  work();
  context.restore();
}

/** Set the largest font in which words fit across a canvas; how many pixels it is high. */
function fit(context: CanvasRenderingContext2D, words: string, height: number): number {
  const set = (px: number): number => (context.font = `bold ${px}px system-ui, sans-serif`, px);
  set(MOST * height);
  return set(MOST * height * Math.min(1, (context.canvas.width - 2 * ASIDE * height) / context.measureText(words).width));
}

/** Paint a band along the upper edge of a canvas, with words again and again, so that a narrow strip shows them too; the short ones where those do not fit. */
export function paintBand(context: CanvasRenderingContext2D, words: string, pixelRatio: number): void {
  const height = BAND_PX * pixelRatio;
  plainly(context, () => {
    context.fillStyle = GROUND;
    context.fillRect(0, 0, context.canvas.width, height);
    context.fillStyle = INK;
    context.textBaseline = 'middle';
    const told = fit(context, words, height) < LEAST * height ? LABEL : words;
    fit(context, told, height);
    const step = context.measureText(told).width + 3 * height;
    for (let x = ASIDE * height; x < context.canvas.width; x += step) context.fillText(told, x, height / 2);
  });
}

/** Paint a hatched border around a virtual stain, whose corners lie at these pixels of a canvas. */
export function paintBorder(context: CanvasRenderingContext2D, corners: [number, number][], pixelRatio: number): void {
  const outline = new Path2D(`M${corners.map((at) => at.join(' ')).join('L')}Z`);
  plainly(context, () => {
    for (const [color, dash] of [[INK, []], [GROUND, [5, 5]]] as const) {
      [context.strokeStyle, context.lineWidth] = [color, 6 * pixelRatio];
      context.setLineDash(dash.map((length) => length * pixelRatio));
      context.stroke(outline);
    }
  });
}
