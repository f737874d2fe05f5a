"""Losses of a batch of tiles as if it were one picture: what adds up over tiles is summed, then compared.

A tile of stroma alone need not look like a whole IHC; only all tiles together must.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from chromogen.image import Image
from chromogen.stains.deconvolution import H_DAB, H_E
from chromogen.stains.glass import white_level
from chromogen.stains.light import blurred, concentrations_of, picture_from
from chromogen.style.encoder import Encoder
from chromogen.style.guides import found_masks
from chromogen.style.marker_network import Stained
from chromogen.style.objective import (
    PAIRED,
    Masks,
    Objective,
    Reference,
    References,
    Statistics,
    average,
    look,
    masks_asked,
    measure,
    refers_to,
)
from chromogen.style.slide_densities import Target, density_from, mixed
from chromogen.style.stainer_network import GAINS
from chromogen.style.statistics import ADDITIVE, PYRAMID_PX
from chromogen.training.fields import Tile
from chromogen.training.ranks import ALONE, Ranks

POSITIVE_OD10 = 0.2  # DAB from which a pixel counts as stained
LN_10 = 2.302585
LEAST_PAIRED_DAB = 0.05  # where the pairs show hardly any brown, what would be much of it


def measured_styles(objective: Objective, styles: Sequence[Image], encoder: Encoder, mpp: float) -> References:
    """What the objective asks of IHC images, uint8 (H, W, 3) on a white of their own, each counting alike."""

    def of(style: Image) -> References:
        picture = picture_from(density_from(style, white_level(style))).to(encoder.device)
        masks = found_masks(masks_asked(objective) - {PAIRED}, picture, mpp)
        return measure(objective, "style", encoder, picture, "relative", masks)

    return average(objective, (of(style) for style in styles), [1.0] * len(styles))


def pictures_of(stained: Stained, tiles: Sequence[Tile], device: torch.device) -> list[Tensor]:
    """What a network makes of tiles, each (1, 3, T, T) in [0, 1]."""
    return [picture_from(_core(stained(*_given(tile, device)), tile)) for tile in tiles]


def _given(tile: Tile, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    residue = torch.tensor([tile.look.residue])
    return tile.density.to(device), torch.tensor(tile.look.strength).to(device), residue.to(device)


def _core(outer: Tensor, tile: Tile) -> Tensor:
    halo = (outer.shape[2] - tile.masks["tissue"].shape[2]) // 2
    return outer[..., halo:-halo, halo:-halo]


def statistics_of(
    pictures: Sequence[Tensor],
    masks: Sequence[Masks],
    objective: Objective,
    encoder: Encoder,
    ranks: Ranks = ALONE,
) -> Statistics:
    """What the objective compares of all pictures (1, 3, T, T) together; a process looks at its own."""
    summed = tuple(term for term in objective if term.statistic in ADDITIVE)
    others = tuple(term for term in objective if term not in summed)
    grams = tuple(term for term in summed if term.statistic == "gram")
    own, count, own_masks = ranks.own(pictures), len(pictures), ranks.own(masks)
    placed = {PAIRED: torch.cat([mask[PAIRED] for mask in own_masks])} if refers_to(others, PAIRED) else {}
    measured = look(encoder, torch.cat(list(own)), others, "relative", placed) if others else {}
    measured = {seen: ranks.gathered(measured[seen], count) for seen in sorted(measured, key=str)}
    if grams:
        each = [look(encoder, x, grams, "relative", m) for x, m in zip(own, own_masks, strict=True)]
        measured |= _together(each, masks, ranks)
    profiles = tuple(term for term in summed if term.statistic == "dab_profile")
    if profiles:
        joined = {name: torch.cat([mask[name] for mask in masks], 3) for name in masks[0]}
        measured |= look(encoder, torch.cat(list(pictures), 3), profiles, "relative", joined)
    return measured


def _together(each: Sequence[Statistics], masks: Sequence[Masks], ranks: Ranks) -> Statistics:
    """Means over tiles, weighted by how much their masks cover."""
    found = {}
    for seen in sorted(each[0], key=str):  # all processes ask for the same at the same time
        name = seen[2]
        shares = torch.stack([mask[name].sum() if name else torch.ones(()) for mask in masks])
        every = ranks.all_of([one[seen] for one in each], len(masks))
        weights = (shares / shares.sum().clamp_min(1e-6)).to(every[0].device)
        found[seen] = torch.stack([w * one for w, one in zip(weights, every, strict=True)]).sum(0)
    return found


def references_of(
    tiles: Sequence[Tile],
    target: Target,
    objective: Objective,
    encoder: Encoder,
    style: References,
    ranks: Ranks = ALONE,
) -> References:
    """The style's, and what is compared with the tiles' own haematoxylin, content, or real IHC.

    How much a paired term can lose is that of many tiles, in `style`: one batch may show no brown.
    """
    found = dict(style)
    seen = {"hematoxylin": _hematoxylin_alone, "content": _as_it_is}
    for reference, made in seen.items():
        if refers_to(objective, reference):
            pictures = torch.cat([made(tile, target) for tile in ranks.own(tiles)]).to(encoder.device)
            own = measure(objective, reference, encoder, pictures, "relative")
            found |= {key: _of_all(one, len(tiles), ranks) for key, one in own.items()}
    paired = paired_references(tiles, objective, encoder)
    return found | {key: replace(of, energy=style[key].energy) for key, of in paired.items()}


def paired_references(tiles: Sequence[Tile], objective: Objective, encoder: Encoder) -> References:
    """What paired terms measure of the tiles' real IHC; nothing where there are none."""
    if not refers_to(objective, PAIRED):
        return {}
    pictures = torch.cat([picture_from(tile.ihc) for tile in tiles]).to(encoder.device)
    masks = {PAIRED: torch.cat([tile.masks[PAIRED] for tile in tiles]).to(encoder.device)}
    found = measure(objective, PAIRED, encoder, pictures, "relative", masks)
    least = masks[PAIRED].square().sum() / len(tiles) * LEAST_PAIRED_DAB**2 / 2
    return {key: replace(of, energy=of.energy.mean().clamp_min(least)) for key, of in found.items()}


def _of_all(own: Reference, of: int, ranks: Ranks) -> Reference:
    return Reference(ranks.gathered(own.measured, of), ranks.gathered(own.energy, of))


def _hematoxylin_alone(tile: Tile, target: Target) -> Tensor:
    """What an IHC without DAB would show."""
    gain = min(max(target.hematoxylin / tile.look.strength[0], GAINS[0]), GAINS[1])
    hematoxylin = _core(mixed(tile.density, np.linalg.inv(H_E))[0], tile).clamp_min(0) * gain
    return picture_from(torch.cat([hematoxylin * part for part in target.matrix[0]], 1))


def _as_it_is(tile: Tile, _target: Target) -> Tensor:
    return picture_from(_core(tile.density, tile))


def positive_share(pictures: Sequence[Tensor], tissues: Sequence[Tensor]) -> float:
    """How much of the tissue, (1, 1, H, W) from 0 to 1, of pictures (1, 3, H, W) is stained with DAB, 0 to 1."""
    dab = torch.cat([concentrations_of(picture.float(), H_DAB)[:, 1:2] for picture in pictures], 3) / LN_10
    tissue = torch.cat(list(tissues), 3).to(dab.device) > 0.5
    return float((dab[tissue] > POSITIVE_OD10).float().mean()) if tissue.any() else 0.0


def dab_correlation(pictures: Sequence[Tensor], tiles: Sequence[Tile]) -> float | None:
    """Pearson's correlation of DAB with that of the real IHC, blurred, over what is trusted; None without any."""
    found = []
    for picture, tile in zip(pictures, tiles, strict=True):
        if PAIRED not in tile.masks:
            return None
        inside = tile.masks[PAIRED].sum(1, keepdim=True) > 0
        both = torch.cat([picture.cpu().float(), picture_from(tile.ihc)])
        dab = blurred(concentrations_of(both, H_DAB)[:, 1:2].clamp_min(0), PYRAMID_PX[1])
        found.append(torch.stack([dab[:1][inside], dab[1:][inside]]))
    together = torch.cat(found, 1)
    if together.shape[1] < 2 or bool((together.std(1) < 1e-6).any()):
        return None
    return float(torch.corrcoef(together)[0, 1])


def collapse_of(share: float, styles_share: float) -> str | None:
    """What has gone wrong, if it has: no DAB, or DAB all over, where the style is not so."""
    if styles_share > 0.02 and share < styles_share / 20:
        return "no DAB anywhere"
    if styles_share < 0.8 and share > 0.97:
        return "DAB everywhere"
    return None


def on_device(masks: Mapping[str, Tensor], device: torch.device) -> Masks:
    """Masks where the encoder is."""
    return {name: mask.to(device) for name, mask in masks.items()}
