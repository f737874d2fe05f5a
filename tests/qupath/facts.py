"""Print width, height and um per pixel of a slide: what QuPath would know of it."""

import sys

import chromogen

if __name__ == "__main__":
    with chromogen.open_slide(sys.argv[1]) as slide:
        sys.stdout.write(f"{slide.size[0]} {slide.size[1]} {slide.mpp or float('nan')}\n")
