// What says on the page, and in pictures taken of it, that a stain is virtual.

export const VIRTUAL = 'VIRTUAL STAIN';
export const NOT_FOR_DIAGNOSIS = 'not for diagnosis';
export const LABEL = `${VIRTUAL} - ${NOT_FOR_DIAGNOSIS}`;

const BAND_PX = 22;
const [INK, GROUND] = ['#ffffff', '#961414'];

/** Run `work` on a canvas as it is by itself: no turn, no opacity. */
function plainly(context: CanvasRenderingContext2D, work: () => void): void {
  context.save();
  context.setTransform(1, 0, 0, 1, 0, 0);
  [context.globalAlpha, context.globalCompositeOperation] = [1, 'source-over'];
  work();
  context.restore();
}

/** Set a font in which the words fit across the canvas, as far as they stay legible. */
function setFont(context: CanvasRenderingContext2D, words: string, height: number): void {
  const set = (px: number): void => void (context.font = `bold ${px}px system-ui, sans-serif`);
  const [least, most] = [0.4 * height, 0.62 * height];
  set(most);
  const fits = (context.canvas.width - 0.8 * height) / context.measureText(words).width;
  set(Math.max(least, Math.min(1, fits) * most));
}

/** Paint a band along the upper edge of a canvas, with words again and again, so that a narrow strip shows them too. */
export function paintBand(context: CanvasRenderingContext2D, words: string, pixelRatio: number): void {
  const height = BAND_PX * pixelRatio;
  plainly(context, () => {
    context.fillStyle = GROUND;
    context.fillRect(0, 0, context.canvas.width, height);
    context.fillStyle = INK;
    setFont(context, words, height);
    context.textBaseline = 'middle';
    const step = context.measureText(words).width + 3 * height;
    for (let x = 0.4 * height; x < context.canvas.width; x += step) context.fillText(words, x, height / 2);
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
