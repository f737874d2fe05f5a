import { readFileSync } from 'node:fs';
import { defineConfig, type Plugin } from 'vite';

const BUNDLED = { OPENSEADRAGON: 'openseadragon/LICENSE.txt', PREACT: 'preact/LICENSE', SIGNALS: '@preact/signals/LICENSE' };

/** The licences of what is bundled go along with it. */
const licences: Plugin = {
  name: 'licences',
  generateBundle() {
    for (const [name, file] of Object.entries(BUNDLED))
      this.emitFile({ type: 'asset', fileName: `${name}-LICENSE.txt`, source: readFileSync(`node_modules/${file}`, 'utf8') });
  },
};

// Everything is a file of our own server: no inline script or style, as its Content-Security-Policy demands.
export default defineConfig({
  base: './',
  plugins: [licences],
  build: {
    outDir: '../src/chromogen/web/dist',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
    chunkSizeWarningLimit: 1500,
  },
});
