import { defineConfig } from 'vite';

// Everything is a file of our own server: no inline script or style, as its Content-Security-Policy demands.
export default defineConfig({
  base: './',
  build: {
    outDir: '../src/chromogen/web/dist',
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
    chunkSizeWarningLimit: 1500,
  },
});
