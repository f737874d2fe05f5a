"""How slides lie on one another by transforms, kept by the page or found in folders; numbers follow."""

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from chromogen.app.server import create_app
from chromogen.app.view import alignment_routes
from chromogen.app.view.placement import Alignments
from chromogen.app.view.processes import WorkerProcess
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.image import write_image
from chromogen.provenance import NOTICE
from chromogen.registration.align import by_affine
from chromogen.registration.transform import Quality, SlideFrame, Transform, read_transform, write_transform
from test_densities import IHC
from test_guard import HERE
from test_server import ids

MIRRORED_AND_TURNED = IHC[:, ::-1].transpose(1, 0, 2).copy()  # (x, y) of IHC lies at (y, 511 - x)
AFFINE = [[0.0, 1.0, 0.0], [-1.0, 0.0, 512.0]]
REGION = {"type": "Polygon", "coordinates": [[[50, 60], [250, 60], [250, 160], [50, 160], [50, 60]]]}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(WorkerProcess, "call", lambda _self, work, *arguments: work(*arguments))
    slides = tmp_path / "slides"
    slides.mkdir()
    write_image(slides / "one.png", IHC)
    write_image(slides / "two.png", MIRRORED_AND_TURNED)
    write_image(slides / "three.png", IHC[:, 100:].copy())
    with TestClient(create_app([slides], tmp_path / "results", page=tmp_path), base_url=HERE) as client:
        yield client


def path(client: TestClient, first: str, second: str) -> str:
    found = ids(client)
    return f"/api/slides/{found[first]}/beside/{found[second]}"


def frame(name: str, size: tuple[int, int] = (400, 300), mpp: float = 0.5) -> SlideFrame:
    return SlideFrame(size, mpp, "file", name)


def shifted(one: str, other: str, by_um: float) -> Transform:
    return by_affine(frame(one), frame(other), np.array([[1.0, 0, by_um], [0, 1, 0]]))


def test_what_was_laid_by_hand_is_kept_both_ways(client: TestClient, tmp_path: Path) -> None:
    there = path(client, "one.png", "two.png")
    assert client.get(there).json()["is_guess"]
    laid = client.put(there, json={"affine": AFFINE}).json()
    assert (laid["by"], laid["is_guess"], laid["bends"], laid["is_kept"]) == (
        "where you placed it",
        False,
        False,
        True,
    )
    np.testing.assert_allclose(laid["affine"], AFFINE, atol=1e-9)
    back = client.get(path(client, "two.png", "one.png")).json()
    np.testing.assert_allclose(back["affine"], [[0, -1, 512], [1, 0, 0]], atol=1e-9)
    with TestClient(create_app([tmp_path / "slides"], tmp_path / "results"), base_url=HERE) as again:
        np.testing.assert_allclose(again.get(there).json()["affine"], AFFINE, atol=1e-9)
    assert client.delete(there).json()["is_guess"]


def test_numbers_and_differences_follow_a_slide_that_is_turned_and_mirrored(client: TestClient) -> None:
    there = path(client, "one.png", "two.png")
    client.put(there, json={"affine": AFFINE})
    found = ids(client)
    on, other = found["one.png"], found["two.png"]
    asked = {"on": on, "slides": [{"id": on}, {"id": other}], "regions": [{"name": "a", "geometry": REGION}]}
    ours, theirs = client.post("/api/numbers", json=asked).json()["numbers"]
    for name in ("positive_percent", "mean_od10", "tissue_percent", "above_threshold_percent"):
        assert theirs[name] == pytest.approx(ours[name], rel=0.02)
    assert ours["positive_percent"] > 5
    more = client.get(f"/api/slides/{on}/differences/{other}/0/0/0.png?stains=h-dab&stains=h-dab").content
    differences: NDArray[np.int_] = np.asarray(PIL.Image.open(io.BytesIO(more))).astype(int) - 128
    inner = differences[10:-10, 10:-10]
    assert np.abs(inner[..., 1]).mean() < 1.5
    assert np.median(inner[..., 2]) > 120, "structure lies on structure"


def test_landmarks_lay_a_slide_and_name_the_one_that_is_wrong(client: TestClient, tmp_path: Path) -> None:
    there = path(client, "one.png", "two.png")
    places = [(40, 50), (400, 90), (200, 420), (120, 300), (330, 260)]
    pairs = [[x, y, y, 512 - x] for x, y in places]
    fitted = client.post(f"{there}/landmarks", json={"pairs": pairs}).json()
    np.testing.assert_allclose(fitted["beside"]["affine"], AFFINE, atol=1e-6)
    assert max(fitted["residuals_um"]) < 1e-6
    assert fitted["doubtful"] is None
    pairs[2][2] += 90
    assert client.post(f"{there}/landmarks", json={"pairs": pairs}).json()["doubtful"] == 2
    answer = client.post(f"{there}/landmarks", json={"pairs": pairs[:2], "kind": "affine"})
    assert answer.status_code == 422
    assert "at least 3 pairs" in answer.json()["detail"]
    (tmp_path / "t.json").write_bytes(client.get(f"{there}/transform.json").content)
    assert read_transform(tmp_path / "t.json").source.size_px == (512, 512)


@pytest.mark.parametrize("affine", [[[0, 0, 5], [0, 0, 5]], [[1, 2, 0], [2, 4, 0]], [[1e9, 0, 0], [0, 1e9, 0]]])
def test_an_affine_that_cannot_be_undone_is_refused(client: TestClient, affine: list[list[float]]) -> None:
    answer = client.put(path(client, "one.png", "two.png"), json={"affine": affine})
    assert answer.status_code == 422
    assert "can be undone" in answer.json()["detail"]


def test_a_file_in_the_folder_lays_slides_until_the_page_keeps_another(client: TestClient, tmp_path: Path) -> None:
    there = path(client, "one.png", "three.png")
    assert client.get(f"{there}/transform.json").status_code == 422
    client.put(there, json={"affine": [[1, 0, -100], [0, 1, 0]]})
    (tmp_path / "slides" / "named.json").write_bytes(client.get(f"{there}/transform.json").content)
    (tmp_path / "slides" / "other.json").write_text('{"format": "chromogen-transform-1"}')
    client.delete(there)
    client.get("/api/slides")
    assert client.get(there).json()["affine"][0][2] == pytest.approx(-100)
    assert not client.get(there).json()["is_kept"]
    client.put(there, json={"affine": [[1, 0, -90], [0, 1, 0]]})
    assert client.get(there).json()["affine"][0][2] == pytest.approx(-90)


def test_slides_that_lie_on_each_other_are_of_one_tissue(client: TestClient) -> None:
    def tissues() -> dict[str, str]:
        return {name: client.get(f"/api/slides/{slide}").json()["tissue"] for name, slide in ids(client).items()}

    assert len(set(tissues().values())) == 3
    client.put(path(client, "one.png", "two.png"), json={"affine": AFFINE})
    found = tissues()
    assert found["one.png"] == found["two.png"] != found["three.png"]
    client.put(path(client, "three.png", "two.png"), json={"affine": AFFINE})
    assert len(set(tissues().values())) == 1
    assert client.get(path(client, "one.png", "three.png")).json()["by"] == "by way of another slide"


def test_a_registration_says_how_far_it_is(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    there, asked, go_on = f"{path(client, 'one.png', 'two.png')}/registration", Event(), Event()

    def register(*_slides: Path, on_stage: Callable[[int, int, str], None], **_mpp: float | None) -> Transform:
        on_stage(1, 4, "searching")
        asked.set()
        assert go_on.wait(60)
        raise ValueError("no such tissue")

    monkeypatch.setattr(alignment_routes, "register", register)
    nothing = {"part": None, "words": ""}
    assert client.get(there).json() == nothing
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client.post, there)
        assert asked.wait(60)
        assert client.get(there).json() == {"part": 0.25, "words": "searching"}
        go_on.set()
        assert answer.result().status_code == 422
    assert client.get(there).json() == nothing


def test_a_registration_is_kept(client: TestClient) -> None:
    there = path(client, "one.png", "three.png")
    found = client.post(f"{there}/registration").json()
    assert (found["by"], found["is_kept"]) == ("by registration", True)
    (a, b, c), (d, e, f) = found["affine"]
    x, y = a * 300 + b * 250 + c, d * 300 + e * 250 + f
    assert np.hypot(x - 200, y - 250) < 4


def test_by_way_of_others(tmp_path: Path) -> None:
    kept = Alignments(SlideCatalog([tmp_path], (".json",)), tmp_path / "kept")
    for one, other, by_um in (("a", "b", 10.0), ("c", "b", 3.0), ("c", "d", 1.0)):
        kept.keep(shifted(one, other, by_um))
    way = kept.between("a", "d")
    assert way
    np.testing.assert_allclose(way.forward_um(np.zeros((1, 2))), [[8.0, 0.0]])
    assert kept.between("a", "e") is None
    assert [kept.tissue_of(name) for name in "bde"] == ["a", "a", "e"]
    assert kept.how("a", "b") == "where you placed it"
    assert kept.how("a", "c") == "by way of another slide"


def test_the_page_keeps_one_transform_of_two_slides(tmp_path: Path) -> None:
    write_transform(tmp_path / "found.json", shifted("a", "b", 1.0))
    (tmp_path / "regions.json").write_text(json.dumps({"type": "FeatureCollection", "notice": NOTICE}))
    kept = Alignments(SlideCatalog([tmp_path], (".json",)), tmp_path / "kept")
    assert not kept.is_kept("a", "b")
    for one, other in (("a", "b"), ("b", "a")):
        kept.keep(shifted(one, other, 7.0))
        assert len(list((tmp_path / "kept").iterdir())) == 1
        found = kept.direct("b", "a")
        assert found
        assert found.source.quickhash == one
    kept.forget("a", "b")
    again = kept.between("a", "b")
    assert again
    assert again.forward_um(np.zeros((1, 2)))[0, 0] == pytest.approx(1.0)


def test_a_registration_says_so(tmp_path: Path) -> None:
    kept = Alignments(SlideCatalog([tmp_path], (".json",)), tmp_path / "kept")
    made = shifted("a", "b", 1.0)
    kept.keep(Transform(made.source, made.target, made.pieces, Quality(2.0, 0.5, 0.1, 0.3)))
    assert kept.how("b", "a") == "by registration"
