import { readFileSync } from 'node:fs';
import { defineConfig, type Plugin } from 'vite';

/** The licence of what is bundled goes along with it. */
const licence: Plugin = {
  name: 'licence',
  generateBundle() {
    const source = readFileSync('node_modules/openseadragon/LICENSE.txt', 'utf8');
    this.emitFile({ type: 'asset', fileName: 'OPENSEADRAGON-LICENSE.txt', source });
  },
};

// Everything is a file of our own server: no inline script or style, as its Content-Security-Policy demands.
export default defineConfig({
  base: './',
  plugins: [licence],
  build: {
    outDir: '../src/chromogen/web/dist',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
    chunkSizeWarningLimit: 1500,
  },
});
