"""The objective of pastiche 1.6, our peer on equal terms: its own code as a judge, and the same in our words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pastiche.pastiche import PasticheArtist

from chromogen.image import Image, read_image, resize, write_image
from chromogen.style.recipes import Recipe, content_term, style_term

CHANNELS = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}
COARSEST_PX = 64
SCALES = (0.25, 0.5, 1.0)
COARSE_STEPS = (12, 10)
PRECONDITIONED_STEPS = 30
HISTORY = 30
NEGLIGIBLE = ("relu5_1",)  # below 1 % of the objective on every pair: its way down is found without looking


def peer_recipe(width: int, height: int) -> Recipe:
    """pastiche's default objective for pictures of this size: `paper` losses with its weights, one scale."""
    values = 512 * (height // 8) * (width // 8)
    content = content_term("relu4_2", weight=0.01 * 2 / values)
    style = replace(style_term(), layers={layer: 40 / c**2 for layer, c in CHANNELS.items()})
    return Recipe((content, style), loss_scale="paper")


def fast_recipe(width: int, height: int, steps: int) -> Recipe:
    """The same objective our quickest way: from the style's colours, coarse to fine where there is room.

    Layers that are a negligible part of it are not looked at, which spares three of the thirteen convolutions.
    """
    planned = zip(SCALES, (*COARSE_STEPS, steps), strict=True)
    scales, each = zip(
        *((s, n) for s, n in planned if s == 1 or s * min(width, height) >= COARSEST_PX), strict=True
    )
    peer = peer_recipe(width, height)
    content, style = peer.objective
    seen = replace(style, layers={layer: w for layer, w in style.layers.items() if layer not in NEGLIGIBLE})
    return replace(
        peer,
        objective=(content, seen),
        init="color",
        scales=scales,
        steps=each,
        preconditioned_steps=PRECONDITIONED_STEPS,
        history=HISTORY,
    )


def judged(picture: Path, content: Path, style: Path) -> float:
    """pastiche's objective of a written picture, in fp32, by its own code."""
    return float(PasticheArtist(str(content), [str(style)], init=str(picture)).loss)


def artist_of(content: Path, style: Path) -> PasticheArtist:
    """pastiche with its defaults, which begins from the content."""
    return PasticheArtist(str(content), [str(style)])


def pair_in(folder: Path, content: Image, style: Image) -> tuple[Path, Path]:
    """Both pictures as plain PNG, which pastiche and we read alike; made equal in size by the style."""
    files = folder / "content.png", folder / "style.png"
    height, width = content.shape[:2]
    for file, image in zip(files, (content, resize(style, (width, height))), strict=True):
        write_image(file, image)
    return files


def pair_from(content: Path, style: Path, folder: Path) -> tuple[Path, Path]:
    """The user's pair in `folder`; ValueError where sizes differ."""
    pictures = read_image(content), read_image(style)
    sizes = [f"{p.shape[1]} x {p.shape[0]} px" for p in pictures]
    if sizes[0] != sizes[1]:
        raise ValueError(f"Expected content and style of one size, got {sizes[0]} and {sizes[1]}.")
    return pair_in(folder, *pictures)
