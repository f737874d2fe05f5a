"""Where and how pixels are computed: devices, memory, tiles, windows."""
