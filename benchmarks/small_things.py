"""The small things everyone waits for: importing, --help, weights, and a folder of styles measured once.

    python benchmarks/small_things.py [--rounds 7] [--out DIR] [--json]

Each in a fresh process, taking turns after a warm-up. The folder holds eight real IHC tiles of 256 px cut from the
image that comes with pip; `again` is the same folder in another process, when its statistics lie in the cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from chromogen.image import write_image
from chromogen.staining.stainer import builtin_ihc
from measuring import command_line, in_turn, machine, markdown, pin_threads, positive, publish, python, spread

LOAD_TORCH = "import chromogen.style.encoder as encoder, time; "
TIMED = "began = time.perf_counter(); {work}; print(time.perf_counter() - began)"
TILE_PX = 256
FROM_INSIDE = {
    "weights from the package (torch is loaded)": LOAD_TORCH + TIMED.format(work="encoder.load_weights()"),
    "weights ready to run (torch is loaded)": LOAD_TORCH + TIMED.format(work="encoder.Encoder()"),
}
STYLIST = (
    "import time; from pathlib import Path; from chromogen.style.encoder import Encoder; "
    "from chromogen.style.recipes import PRESETS; from chromogen.app.jobs import Styles, Stylist; "
    "encoder = Encoder(); encoder.exact; "
    + TIMED.format(work="Stylist(Styles((Path({folder!r}),)), PRESETS['balanced'], encoder)")
)


def tiles(folder: Path) -> Path:
    """Eight tiles of the IHC that comes with pip, each other one mirrored."""
    ihc = builtin_ihc()
    corners = [(y, x) for y in (0, TILE_PX) for x in (0, TILE_PX)]
    cut = [ihc[y : y + TILE_PX, x : x + TILE_PX] for y, x in corners]
    for index, tile in enumerate([*cut, *(tile[:, ::-1].copy() for tile in cut)]):
        write_image(folder / f"{index}.png", tile)
    return folder


def measured(rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of each, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        commands = {
            "import chromogen": ["-c", "import chromogen"],
            "chromogen --help": ["-m", "chromogen", "--help"],
        }
        works = {"python, nothing else": partial(python, ["-c", "pass"], cache)}
        works |= {name: partial(python, arguments, cache) for name, arguments in commands.items()}
        found = {name: spread(times) for name, times in in_turn(works, rounds).items()}
        for name, code in FROM_INSIDE.items():
            found[name] = spread([float(python(["-c", code], cache)) for _ in range(rounds)])
        return found | _styles(Path(scratch), rounds)


def _styles(scratch: Path, rounds: int) -> dict[str, dict[str, float]]:
    folder = scratch / "ihc"
    folder.mkdir()
    code = STYLIST.format(folder=str(tiles(folder)))
    times: dict[str, list[float]] = {"8 styles of 256 px, first": [], "8 styles of 256 px, again": []}
    for index in range(rounds):
        for seconds in times.values():
            seconds.append(float(python(["-c", code], scratch / f"cache_{index}")))
    return {name: spread(seconds) for name, seconds in times.items()}


def table(found: Mapping[str, Mapping[str, float]]) -> str:
    """One row for each thing."""
    rows = [[n, f"{s['median']:.3f} ({s['quartile_1']:.3f}-{s['quartile_3']:.3f})"] for n, s in found.items()]
    return markdown(["what", "s, median (quartiles)"], rows)


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=positive, default=7)
    given = parser.parse_args()
    pin_threads(given.threads)
    found = measured(given.rounds)
    publish("small_things", {"machine": machine(), "results": found}, table(found), given)


if __name__ == "__main__":
    main()
