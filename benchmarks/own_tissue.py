"""How near to a stain's look does a stainer come that was trained on a lab's own tissue? On other tissue of it.

    python benchmarks/own_tissue.py --data DATA [--markers ER ...] [--steps 200] [--out DIR]

Each MIST pair is cut in two. A stainer is trained on the H&E and the IHC of one half, without knowing that they
are of one place, and stains the other half's H&E, which is judged against the IHC that was trained on; and the
other way round. Beside it the floor: the real IHC of the other half, judged against the same. Pictures go to DIR:
H&E, virtual, real.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chromogen.evaluation.fields import Crop
from chromogen.evaluation.scoring import Measures
from chromogen.image import Image, read_image, write_image
from chromogen.provenance import NOTICE
from chromogen.study.cells import crop_scores
from chromogen.style.encoder import Encoder
from chromogen.style.kinds import PlainNetwork, kind_of
from chromogen.style.marker_network import chosen
from chromogen.training.fields import Content
from chromogen.training.train import Training, train_stainer
from measuring import pin_threads

MPP = 0.5
SITES = {"ER": "nuclear", "Ki67": "nuclear", "PR": "nuclear", "HER2": "any"}
SHOWN = ("style_error", "hematoxylin_r", "dab_determined", "dab_profile", "predicted_positive_0.2")


def halves(he: Image, ihc: Image) -> Iterator[tuple[str, Image, Image, Image, Image]]:
    """Which half is trained on; its H&E and IHC, and those of the other."""
    middle = he.shape[1] // 2
    left, right = np.s_[:, :middle], np.s_[:, -middle:]
    yield "left", he[left], ihc[left], he[right], ihc[right]
    yield "right", he[right], ihc[right], he[left], ihc[left]


def trained(he: Image, ihc: Image, site: str, steps: int, encoder: Encoder) -> PlainNetwork:
    training = Training(site=site, mpp=MPP, steps=steps, patience=99)
    found = train_stainer([Content("half", (he,))], [ihc], training, encoder=encoder)
    return chosen(found.network, ())


def judged(picture: Image, he: Image, style: Image, measures: Measures) -> list[float]:
    """NaN where there is no value."""
    found = crop_scores(Crop("", "", "", he, style, paired=False, mpp=MPP), picture, measures)
    return [x if isinstance(x := found.get(name), float) else float("nan") for name in SHOWN]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--markers", nargs="+", default=list(SITES), choices=list(SITES))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    pin_threads(asked.threads)
    encoder = Encoder(precision="fp32")
    measures = Measures(encoder)
    print(f"| trained on | picture | {' | '.join(SHOWN)} |\n|---|---{'|---' * len(SHOWN)}|", flush=True)
    rows: dict[str, list[list[float]]] = {"virtual": [], "real": []}
    for marker in asked.markers:
        files = (asked.data / f"pairs/mist/{marker}_{kind}.png" for kind in ("he", "ihc"))
        for half, he, ihc, other_he, other_ihc in halves(*map(read_image, files)):
            network = trained(he, ihc, SITES[marker], asked.steps, encoder)
            kind = kind_of(network.architecture)
            virtual = kind.stain(network, other_he, kind.look(network, other_he))
            for name, picture in (("virtual", virtual), ("real", other_ihc)):
                rows[name].append(judged(picture, other_he, ihc, measures))
                values = " | ".join(f"{x:.2f}" for x in rows[name][-1])
                print(f"| {marker}, {half} | {name} | {values} |", flush=True)
            if asked.out:
                asked.out.mkdir(parents=True, exist_ok=True)
                sheet = np.concatenate([other_he, virtual, other_ihc], 1)
                write_image(asked.out / f"{marker}_{half}.png", sheet, {"notice": NOTICE})
    for name, found in rows.items():
        print(f"| mean | {name} | {' | '.join(f'{x:.2f}' for x in np.nanmean(found, axis=0))} |")


if __name__ == "__main__":
    main()
