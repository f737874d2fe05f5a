"""What lies in the folder of a piece of work."""

from pathlib import Path

import pytest

from chromogen.app.view.work_folder import check_region, keep_region, lines_of, region_file
from chromogen.image import read_image, read_provenance
from test_densities import IHC


@pytest.mark.parametrize("size", [(63, 64), (64, 2049), (0, 0), (-5, 100)])
def test_regions_have_a_size(size: tuple[int, int]) -> None:
    check_region("region", (64, 2048), "draw another one")
    with pytest.raises(ValueError, match="`region` to be 64 to 2048 px .* draw another one"):
        check_region("region", size, "draw another one")


def test_a_region_is_kept_with_where_it_lay(tmp_path: Path) -> None:
    keep_region(tmp_path, region_file(IHC[:64, :80].copy(), 0.5, (3, 4)))
    assert (read_image(tmp_path / "region.png") == IHC[:64, :80]).all()
    assert read_provenance(tmp_path / "region.png") == {"mpp": 0.5, "region_of_slide": [3, 4]}


def test_half_a_line_and_what_is_none_are_not_read(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    assert lines_of(trace, "n") == []
    trace.write_text('{"n": 2}\n{"n": 1, "x": 1}\n{"n": 1, "x": 2}\nno json\n[]\n{"m": 3}\n{"n": 3')
    assert lines_of(trace, "n") == [{"n": 1, "x": 2}, {"n": 2}]
