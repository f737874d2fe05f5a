"""The web app's answers, by its API alone."""

import gzip
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from shapely.geometry import box, mapping
from starlette.testclient import TestClient

from chromogen.app.server import create_app
from chromogen.app.view import drawn_regions, slide_nuclei
from chromogen.app.view.pictures import PAPER
from chromogen.app.view.processes import WorkerProcess
from chromogen.app.view.stains import Stain
from chromogen.app.view.trials import Trial
from chromogen.image import read_provenance, write_image
from chromogen.provenance import NOTICE
from chromogen.staining.stainer import STAINERS
from chromogen.staining.where_network import write_model
from chromogen.stains.deconvolution import H_DAB, combine_stains
from test_densities import IHC
from test_guard import HERE
from test_trials import STEPS, worker
from test_upload_decoder import png_bomb
from test_where_file import model
from test_work_queue import until

A_FILE = {"content-type": "application/octet-stream"}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(Trial, "command", worker(STEPS))
    monkeypatch.setattr(WorkerProcess, "call", lambda _self, work, *arguments: work(*arguments))  # begun sooner
    slides = tmp_path / "slides"
    slides.mkdir()
    write_image(slides / "ihc.png", IHC)
    write_image(slides / "wide.png", np.concatenate([IHC, IHC], axis=1))
    (slides / "broken.svs").write_bytes(b"no slide")
    (tmp_path / "secret.png").write_bytes((slides / "ihc.png").read_bytes())
    with TestClient(create_app([slides], tmp_path / "results", page=tmp_path), base_url=HERE) as client:
        yield client


def ids(client: TestClient) -> dict[str, str]:
    return {line["name"]: line["id"] for line in client.get("/api/slides").json()}


def test_slides_and_their_facts(client: TestClient) -> None:
    found = ids(client)
    assert set(found) == {"broken.svs", "ihc.png", "wide.png"}
    facts = client.get(f"/api/slides/{found['wide.png']}").json()
    assert (facts["width"], facts["height"], facts["levels"], facts["stains"]) == (1024, 512, 2, "h-dab")
    assert facts["mpp"] is None
    assert facts["associated"] == []
    assert facts["stains_doubt"] is None


def test_stains_that_are_not_sure_are_said_to_be_so(client: TestClient, tmp_path: Path) -> None:
    blue = combine_stains(np.random.default_rng(0).uniform(0, 1.5, (60, 60, 3)) * (1, 0, 0), H_DAB)
    write_image(tmp_path / "slides" / "blue.png", blue)
    facts = client.get(f"/api/slides/{ids(client)['blue.png']}").json()
    assert facts["stains"] == "h-dab"
    assert facts["stains_doubt"] == "it shows neither eosin nor DAB"


def test_virtual_stains_are_named_in_the_list(client: TestClient, tmp_path: Path) -> None:
    write_image(tmp_path / "slides" / "a.png", IHC, {"notice": NOTICE})
    write_image(tmp_path / "slides" / "b.jpg", IHC, {"notice": NOTICE, "stainer": "color-transfer"})
    lines = {line["name"]: line for line in client.get("/api/slides").json()}
    assert {name: line["virtual"] for name, line in lines.items()} == {
        "a.png": "style transfer",
        "b.jpg": "color-transfer",
        "broken.svs": None,
        "ihc.png": None,
        "wide.png": None,
    }
    assert client.get(f"/api/slides/{lines['b.jpg']['id']}").json()["virtual"] == "color-transfer"


def test_a_slide_says_what_is_doubtful_of_it(client: TestClient, tmp_path: Path, data: Path) -> None:
    (tmp_path / "slides" / "he.png").write_bytes((data / "pairs" / "mist" / "ER_he.png").read_bytes())
    facts = {name: client.get(f"/api/slides/{slide}").json() for name, slide in ids(client).items()}
    assert facts["ihc.png"]["stains_doubt"] is None
    assert "looks like an IHC" in facts["ihc.png"]["input_doubt"]
    assert facts["ihc.png"]["exemplar_doubt"] is None
    assert facts["he.png"]["input_doubt"] is None
    assert "looks like an H&E" in facts["he.png"]["exemplar_doubt"]


def test_tiles_are_pictures_that_may_be_kept(client: TestClient) -> None:
    slide = ids(client)["wide.png"]
    for kind, suffix in (("tiles", "jpg"), ("densities", "png")):
        answer = client.get(f"/api/slides/{slide}/{kind}/1/1/0.{suffix}")
        assert answer.status_code == 200
        assert "private" in answer.headers["cache-control"]
        assert PIL.Image.open(io.BytesIO(answer.content)).size == (512, 512)
        assert client.get(f"/api/slides/{slide}/{kind}/1/1/0.{suffix}").content == answer.content
    assert client.get(f"/api/slides/{slide}/thumbnail.jpg").headers["content-type"] == "image/jpeg"


def test_one_bad_slide_takes_nothing_down(client: TestClient) -> None:
    found = ids(client)
    for _ in range(3):
        answer = client.get(f"/api/slides/{found['broken.svs']}/tiles/0/0/0.jpg")
        assert answer.status_code == 422
        assert "broken.svs" in answer.json()["detail"]
        assert str(Path(__file__).parent.parent) not in answer.text
        assert client.get(f"/api/slides/{found['ihc.png']}/tiles/0/0/0.jpg").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/slides/../../secret.png",
        "/api/slides/..%2f..%2fsecret.png/tiles/0/0/0.jpg",
        "/api/slides/%2e%2e/thumbnail.jpg",
        "/api/slides/%2Fetc%2Fpasswd",
        "/../secret.png",
        "/..%2fsecret.png",
        "/%2e%2e/secret.png",
        "//etc/passwd",
        "/api/trials/..%2f..%2fsecret/picture.png",
        "/api/trials/../../secret.png",
        "/api/slides/%00/thumbnail.jpg",
    ],
)
def test_no_path_leads_out(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (404, 422, 503)
    assert b"root:" not in answer.content
    assert not answer.content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "place", ["9/0/0", "0/5/0", "0/0/5", "-1/0/0", "0/-1/0", "0/0/99999999999", "x/0/0", "0/0/1e3"]
)
def test_tiles_that_are_not_there(client: TestClient, place: str) -> None:
    slide = ids(client)["ihc.png"]
    for kind, suffix in (("tiles", "jpg"), ("densities", "png"), (f"differences/{slide}", "png")):
        assert client.get(f"/api/slides/{slide}/{kind}/{place}.{suffix}").status_code in (404, 422)


def test_the_page_served_by_the_server_does_not_lead_out(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("the page")
    (tmp_path / "secret.txt").write_text("secret")
    (page / "link.txt").symlink_to(tmp_path / "secret.txt")
    client = TestClient(create_app([tmp_path], tmp_path / "results", page=page), base_url=HERE)
    assert client.get("/").text == "the page"
    for path in ("/../secret.txt", "/..%2fsecret.txt", "/%2e%2e%2fsecret.txt", "/link.txt", "//secret.txt"):
        assert "secret" not in client.get(path).text


def test_without_the_page_it_is_said_what_to_do(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 503
    assert "Node.js" in answer.text
    assert client.get("/api/openapi.json").json()["info"]["title"] == "Chromogen"


def test_the_openapi_says_what_is_refused_and_what_is_sent(client: TestClient) -> None:
    schema = client.get("/api/openapi.json").json()
    operations = [operation for methods in schema["paths"].values() for operation in methods.values()]
    assert all({"4XX", "5XX"} < set(operation["responses"]) for operation in operations)
    for path, methods in schema["paths"].items():
        sent = set(methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {}))
        assert sent == {".png": {"image/png"}, ".jpg": {"image/jpeg"}}.get(Path(path).suffix, sent), path
    assert "image/png" in schema["paths"]["/api/exemplars"]["post"]["requestBody"]["content"]
    presets = schema["components"]["schemas"]["NewTrial"]["properties"]["preset"]
    assert presets["enum"] == client.get("/api/app").json()["presets"]
    assert presets["default"] in presets["enum"]


def test_differences_and_how_slides_lie(client: TestClient) -> None:
    found = ids(client)
    besides = f"/api/slides/{found['ihc.png']}/beside/{found['wide.png']}"
    beside = client.get(besides).json()
    assert beside["affine"] == [[1, 0, 0], [0, 1, 0]]
    assert beside["is_guess"]
    assert "neither file states a pixel size" in beside["by"]
    path = f"/api/slides/{found['ihc.png']}/differences/{found['wide.png']}/0/0/0.png"
    answer = client.get(path, params={"stains": ["h-dab", "h-dab"]})
    assert (np.asarray(PIL.Image.open(io.BytesIO(answer.content)))[..., 1] == 128).all()
    assert client.get(path, params={"stains": ["nonsense", "h-dab"]}).status_code == 422
    for number, by_px in enumerate((512, 100)):
        client.put(besides, json={"affine": [[1, 0, by_px], [0, 1, 0]]})
        moved = client.get(path, params={"stains": ["h-dab", "h-dab"], "placed": number})
        differs = (np.asarray(PIL.Image.open(io.BytesIO(moved.content)))[..., 1] != 128).mean()
        assert (differs > 0.5) == (by_px == 100), "its other half is alike"
    assert client.get(path, params={"placed": 65 * "x"}).status_code == 422


SQUARE = {"type": "Polygon", "coordinates": [[[10, 10], [200, 10], [200, 200], [10, 10]]]}
ONE = {"name": "Region 1", "geometry": SQUARE}


def test_regions_of_a_file_are_read_as_by_the_command_line(client: TestClient) -> None:
    square = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9]]]}
    features = [
        {"type": "Feature", "geometry": None},
        {
            "type": "Feature",
            "geometry": square,
            "properties": {"classification": {"names": ["Tumor", "Positive"]}},
        },
        {"type": "Feature", "geometry": square, "properties": {"name": "n" * 999, "classification": "Stroma"}},
        square,
    ]
    found = client.post(
        "/api/regions", content=b"\xef\xbb\xbf" + json.dumps(features).encode(), headers=A_FILE
    ).json()
    assert [region["name"] for region in found["regions"]] == ["Tumor: Positive", "n" * 200, "Region 4"]
    assert found["regions"][0]["properties"] == {
        "classification": {"name": "Tumor: Positive", "color": [200, 0, 0]}
    }
    assert found["regions"][2]["properties"] == {}
    assert found["regions"][2]["geometry"] == {
        "type": "Polygon",
        "coordinates": [[*square["coordinates"][0], [0, 0]]],
    }  # type: ignore[index]
    assert found["left_out"] == [
        "Chromogen left out 1 of 4 features, without an area: no geometry, points or lines."
    ]
    slide = ids(client)["ihc.png"]
    regions = [{"name": region["name"], "geometry": region["geometry"]} for region in found["regions"]]
    asked = {"on": slide, "slides": [{"id": slide}], "regions": regions}
    assert client.post("/api/numbers", json=asked).status_code == 200
    many = client.post("/api/regions", content=json.dumps([square] * 203), headers=A_FILE).json()
    assert len(many["regions"]) == 200
    assert many["left_out"] == ["Chromogen left out the last 3: the page takes 200 regions."]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "it is not whole JSON, from line 1"),
        (
            b'[{"type": "Feature", "id": 7, "geometry": {"type": "Polygon"}}]',
            "feature 1 (id 7): its Polygon has no",
        ),
        (b"[]", "to be GeoJSON with at least one polygon, got none"),
        (gzip.compress(b" " * 30_000_000), "it has more than 20,000,000 bytes"),
    ],
)
def test_files_without_regions_are_refused_in_our_words(client: TestClient, content: bytes, why: str) -> None:
    answer = client.post("/api/regions", content=content, headers=A_FILE)
    assert answer.status_code == 422
    assert why in answer.json()["detail"]


def numbers(client: TestClient, on: str, slides: list[str], *regions: object) -> list[dict[str, object]]:
    asked = {"on": on, "slides": [{"id": slide} for slide in slides], "regions": list(regions)}
    answer = client.post("/api/numbers", content=json.dumps(asked), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["numbers"])


def test_numbers_of_a_region_in_every_slide(client: TestClient) -> None:
    found = ids(client)
    first, second = numbers(
        client, found["ihc.png"], [found["ihc.png"], found["wide.png"]], {"name": "a", "geometry": SQUARE}
    )
    assert first["positive_percent"] == pytest.approx(second["positive_percent"], abs=0.2)
    assert (first["slide"], second["slide"], first["name"]) == (found["ihc.png"], found["wide.png"], "a")
    asked = {"on": found["ihc.png"], "slides": [{"id": found["ihc.png"]}]}
    too_many = {**asked, "regions": [{"geometry": SQUARE}] * 201}
    assert client.post("/api/numbers", json=too_many).status_code == 422


def test_nuclei_of_a_region_are_those_that_the_view_outlines(client: TestClient) -> None:
    slide = ids(client)["wide.png"]
    (found,) = numbers(client, slide, [slide], {"geometry": mapping(box(100, 50, 400, 300))})
    view = {"left": 100, "top": 50, "width": 300, "height": 250}
    answer = client.get(f"/api/slides/{slide}/nuclei", params=view)
    assert answer.status_code == 200, answer.text
    seen = answer.json()
    assert {name: found[name] for name in seen if name in found} == {
        name: value for name, value in seen.items() if name not in ("words", "outlines", "positive")
    }
    assert len(seen["outlines"]) == len(seen["positive"]) == found["nuclei"] > 20
    assert sum(seen["positive"]) == found["positive_nuclei"]
    for score in ("positive_nuclei_percent", "h_score"):
        assert found[f"{score}_low"] <= found[score] <= found[f"{score}_high"]
    assert "intervals are over nuclei" in found["nuclei_doubt"], "too few fields"
    assert found["nuclei_per_mm2"] is None, "the picture states no pixel size"
    for outline in seen["outlines"]:
        x, y = np.reshape(outline, (-1, 2)).mean(axis=0)
        assert 90 < x < 410
        assert 40 < y < 310


def test_per_mm2_counts_tissue(client: TestClient, tmp_path: Path) -> None:
    write_image(tmp_path / "slides" / "sized.png", IHC, mpp=0.5)
    slide = ids(client)["sized.png"]
    (found,) = numbers(client, slide, [slide], {"geometry": mapping(box(0, 0, 512, 512))})
    mm2 = found["tissue_percent"] / 100 * 0.256**2  # type: ignore[operator]
    assert found["nuclei_per_mm2"] == pytest.approx(found["nuclei"] / mm2)  # type: ignore[operator]


def test_a_region_too_large_for_nuclei_has_its_other_numbers(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slide_nuclei, "MAX_MM2", 0.01)
    slide = ids(client)["ihc.png"]
    (found,) = numbers(client, slide, [slide], {"geometry": mapping(box(0, 0, 500, 500))})
    assert found["positive_percent"] is not None
    assert found["nuclei"] is found["positive_nuclei"] is None
    assert "at most 0.01 mm2 for nuclei" in str(found["why"])
    answer = client.get(f"/api/slides/{slide}/nuclei?left=0&top=0&width=500&height=500")
    assert answer.status_code == 422
    assert "take a smaller one" in answer.json()["detail"]


@pytest.mark.parametrize("asked", ["left=-1", "width=0", "height=nan", "left=x", "stains=brown", "top=1e12"])
def test_boxes_that_are_none(client: TestClient, asked: str) -> None:
    slide, name = ids(client)["ihc.png"], asked.partition("=")[0]
    given = {"left": "0", "top": "0", "width": "9", "height": "9", name: asked.partition("=")[2]}
    assert client.get(f"/api/slides/{slide}/nuclei", params=given).status_code == 422


NO_REGIONS = [
    ({}, "polygon"),
    ({"geometry": None}, "polygon"),
    ({"geometry": "POLYGON ((0 0, 1 1, 1 0))"}, "polygon"),
    ({"geometry": [1, 2, 3]}, "polygon"),
    ({"geometry": {"type": "Polygon"}}, "GeoJSON polygon"),
    ({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], ["a", 1], [2, 2], [0, 0]]]}}, "GeoJSON polygon"),
    ({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1e400, 1], [2, 2], [0, 0]]]}}, ""),
    ({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1e300, 9e307], [2e307, 2], [0, 0]]]}}, ""),
    ({"geometry": {"type": "Point", "coordinates": [0, 0]}}, "polygon with an area"),
    (
        {"geometry": {"type": "Polygon", "coordinates": [[[9e4, 9e4], [9e5, 9e4], [9e5, 9e5], [9e4, 9e4]]]}},
        "outside",
    ),
    ({"geometry": {"type": "Polygon", "coordinates": []}}, "polygon"),
]


@pytest.mark.parametrize(("bad", "why"), NO_REGIONS)
def test_a_region_without_numbers_does_not_stop_the_others(
    client: TestClient, bad: dict[str, object], why: str
) -> None:
    slide = ids(client)["ihc.png"]
    good = {"name": "good", "geometry": SQUARE}
    first, found, last = numbers(client, slide, [slide], good, bad, good)
    assert first.keys() == last.keys()
    assert first["positive_percent"] == last["positive_percent"]
    assert first["positive_percent"] is not None
    if "error" not in found:  # it lies on the slide in part
        assert found["tissue_percent"] is not None
        return
    assert found.keys() == {"region", "name", "slide", "error"}
    assert (found["region"], found["slide"]) == (1, slide)
    assert why in str(found["error"])


@pytest.mark.parametrize("name", ["x" * 300, None, 7, ""])
def test_any_name_of_a_region_will_do(client: TestClient, name: object) -> None:
    slide = ids(client)["ihc.png"]
    (found,) = numbers(client, slide, [slide], {"name": name, "geometry": SQUARE})
    assert "error" not in found
    assert found["name"] == (str(name) if isinstance(name, int) else name)


def test_a_slide_without_numbers_does_not_stop_the_others(client: TestClient, tmp_path: Path) -> None:
    found = ids(client)
    (tmp_path / "slides" / "wide.png").unlink()
    slides = [found["broken.svs"], found["wide.png"], "0" * 16, found["ihc.png"]]
    broken, gone, unknown, good = numbers(client, found["ihc.png"], slides, {"geometry": SQUARE})
    assert "in no format that can be read" in str(broken["error"])
    assert str(tmp_path) not in str(broken["error"])
    assert "no such slide" in str(gone["error"])
    assert "no such slide" in str(unknown["error"])
    assert good["positive_percent"]


def test_too_little_memory_for_a_region_does_not_stop_the_others(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = drawn_regions.numbers_of
    ends = iter([MemoryError(), None, OSError(5, "Input/output error"), RuntimeError("odd")])

    def failing(*given: Any) -> Any:
        if error := next(ends):
            raise error
        return measure(*given)

    monkeypatch.setattr(drawn_regions, "numbers_of", failing)
    slide = ids(client)["ihc.png"]
    found = numbers(client, slide, [slide], *[{"geometry": SQUARE}] * 4)
    assert [str(line.get("error", "fine")) for line in found] == [
        "There is too little memory for this.",
        "fine",
        "Input/output error",
        "odd",
    ]


def test_labels_are_hidden_unless_asked_for(data: Path, tmp_path: Path) -> None:
    slides = data / "slides"
    for labels in (False, True):
        client = TestClient(create_app([slides], tmp_path, labels=labels, page=tmp_path), base_url=HERE)
        slide = ids(client)["small.svs"]
        answer = client.get(f"/api/slides/{slide}/associated/label.jpg")
        assert answer.status_code == (404 if labels else 403)


def new_trial(client: TestClient, **changes: object) -> dict[str, object]:
    asked = {"slide": ids(client)["wide.png"], "location": [500, 20], "size": [96, 80], **changes}
    answer = client.post("/api/trials", json=asked)
    return {**answer.json(), "status_code": answer.status_code}


def finished(client: TestClient, trial_id: object) -> dict[str, object]:
    until(lambda: client.get(f"/api/jobs/{trial_id}").json()["state"] not in ("waiting", "running"))
    return dict(client.get(f"/api/jobs/{trial_id}").json())


def test_a_trial_by_the_api(client: TestClient) -> None:
    trial = new_trial(client, steps=3, dab_amount=1.5)
    assert trial["status_code"] == 201
    assert trial["command"] == (
        "chromogen stylize region.png exemplar.png -o result.png --preset histology --steps 3 --dab-amount 1.5"
    )
    for line in ("recipe = with_total_steps(recipe, 3)", "recipe = replace(recipe, dab_amount=1.5)"):
        assert line in str(trial["python"]).splitlines()
    followed = finished(client, trial["id"])
    assert (followed["state"], followed["status"]) == ("done", "Done: 3 steps in 0 s")
    assert followed["losses"] == pytest.approx([1, 1 / 2, 1 / 3])
    path = f"/api/jobs/{trial['id']}"
    region = np.asarray(PIL.Image.open(io.BytesIO(client.get(f"{path}/region.png").content)))
    np.testing.assert_array_equal(region, np.concatenate([IHC, IHC], axis=1)[20:100, 500:596])
    assert "attachment" in client.get(f"{path}/result").headers["content-disposition"]
    assert client.get(f"{path}/exemplar.png").status_code == 200
    assert [t["id"] for t in client.get("/api/jobs").json()] == [trial["id"]]
    assert any(name.endswith("result.png") for name in ids(client)), "results are slides too"


def test_a_finished_trial_is_adjusted_and_says_so(client: TestClient, tmp_path: Path) -> None:
    trial = new_trial(client)
    path = f"/api/jobs/{trial['id']}"
    finished(client, trial["id"])
    answer = client.get(f"{path}/picture.png", params={"strength": 0.5, "dab_amount": 2})
    (tmp_path / "picture.png").write_bytes(answer.content)
    said = read_provenance(tmp_path / "picture.png") or {}
    assert said["adjusted"] == {"strength": 0.5, "dab_amount": 2}
    kept = client.get(f"{path}/labelled.png", params={"strength": 0.5, "dab_amount": 2})
    assert "virtual" in kept.headers["content-disposition"]
    picture, label = (np.asarray(PIL.Image.open(io.BytesIO(one.content))) for one in (answer, kept))
    assert (picture == label).all(axis=2).mean() > 0.5
    assert (np.abs(label[-2:].astype(int) - PAPER).max(axis=2) < 5).all()
    (tmp_path / "kept.png").write_bytes(kept.content)
    assert read_provenance(tmp_path / "kept.png") == {**said, "labelled": True}
    assert client.get(f"{path}/picture.png", params={"strength": 2}).status_code == 422


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"preset": "nonsense"}, "preset"),
        ({"size": [0, 10]}, "inside the slide"),
        ({"location": [1000, 0]}, "inside the slide"),
        ({"location": [-5, 0]}, "inside the slide"),
        ({"exemplar": "upload-" + "0" * 16}, "upload it again"),
    ],
)
def test_trials_that_cannot_be(client: TestClient, changes: dict[str, object], says: str) -> None:
    answer = new_trial(client, **changes)
    assert answer["status_code"] == 422
    assert says in str(answer["detail"])
    assert client.get("/api/jobs").json() == []


@pytest.mark.parametrize(
    "exemplar", ["../secret.png", "upload-../../secret", "/etc/passwd", "https://x.example/a.png"]
)
def test_exemplars_are_not_paths(client: TestClient, exemplar: str) -> None:
    assert new_trial(client, exemplar=exemplar)["status_code"] == 422


def test_own_exemplars(client: TestClient) -> None:
    octets = {"content-type": "application/octet-stream"}
    data = io.BytesIO()
    PIL.Image.fromarray(IHC[:200, :220]).save(data, "PNG")
    uploaded = client.post("/api/exemplars", content=data.getvalue(), headers=octets)
    assert uploaded.status_code == 200
    assert uploaded.json()["exemplar_doubt"] is None
    trial = new_trial(client, exemplar=uploaded.json()["exemplar"])
    given = client.get(f"/api/jobs/{trial['id']}/exemplar.png").content
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(given))), IHC[:200, :220])
    assert new_trial(client, exemplar=ids(client)["ihc.png"])["status_code"] == 201
    for hostile in (b"", b"<svg onload=alert(1)>", png_bomb(8_000, 6_000)):
        answer = client.post("/api/exemplars", content=hostile, headers=octets)
        assert answer.status_code == 422
        assert "cannot be used" in answer.json()["detail"]


def test_many_at_once_are_answered_alike(client: TestClient) -> None:
    slide = ids(client)["wide.png"]
    places = [(1, x, 0) for x in range(2)] + [(0, 0, 0)]

    def ask(number: int) -> tuple[int, int]:
        level, x, y = places[number % 3]
        answer = client.get(f"/api/slides/{slide}/tiles/{level}/{x}/{y}.jpg")
        return number % 3, hash(answer.content) if answer.status_code == 200 else 0

    with ThreadPoolExecutor(20) as threads:
        assert len(set(threads.map(ask, range(120)))) == 3


def test_about_says_what_it_is(client: TestClient) -> None:
    about = client.get("/api/app").json()
    assert about["notice"] == NOTICE
    assert about["default_preset"] in about["presets"]
    assert json.dumps(client.get("/api/openapi.json").json()).count("http://") == 0


def stain(client: TestClient, kind: str, **asked: object) -> dict[str, object]:
    answer = client.post("/api/stains", json=asked)
    return {**answer.json(), "status_code": answer.status_code}


def test_stainers_are_listed(client: TestClient) -> None:
    lines = client.get("/api/stainers").json()
    names = [line["name"] for line in lines]
    assert all(line["claim"] for line in lines)
    assert [line["mpp"] for line in lines] == [0.5] * 5
    assert names == [
        "epithelial",
        "nuclear",
        "identity",
        "color-transfer",
        "normalize",
    ]


def test_a_view_is_stained_at_once(client: TestClient) -> None:
    slide = ids(client)["wide.png"]
    made = stain(client, "view", slide=slide, stainer="identity", location=[500, 20], size=[96, 80])
    assert (made["status_code"], made["state"]) == (201, "done")
    answer = client.get(f"/api/jobs/{made['id']}/result")
    picture = np.asarray(PIL.Image.open(io.BytesIO(answer.content)))
    seen = client.get(f"/api/jobs/{made['id']}/region.png").content
    wanted = np.concatenate([IHC, IHC], axis=1)[20:100, 500:596]
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(seen))), wanted)
    assert (picture == wanted).all(axis=2).mean() > 0.9, "all but glass, which is as in the whole slide"
    assert "attachment" in answer.headers["content-disposition"]
    kept = client.get(f"/api/jobs/{made['id']}/labelled.png").content
    label = np.asarray(PIL.Image.open(io.BytesIO(kept)))
    assert label.shape == picture.shape
    assert (np.abs(label[-2:].astype(int) - PAPER).max(axis=2) < 5).all()
    assert any(name == f"{made['id']}/result.png" for name in ids(client)), "results are slides too"
    assert [one["id"] for one in client.get("/api/jobs").json()] == [made["id"]]
    fine = stain(client, "view", slide=slide, stainer="identity", location=[0, 0], size=[200, 400], mpp=0.25)
    half = client.get(f"/api/jobs/{fine['id']}/result").content
    assert PIL.Image.open(io.BytesIO(half)).size == (100, 200), "at the stainer's pixel size"
    assert made["command"] == (
        "chromogen stain wide.png --stainer identity --mpp 0.5 --region 500,20,96,80 "
        "--compression deflate -o wide_identity_500-20.ome.tif"
    )


def test_a_part_that_is_small_is_taken_larger_and_one_that_is_large_waits(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stain, "command", worker(""))
    write_image(tmp_path / "slides" / "large.png", np.tile(IHC, (5, 5, 1)), mpp=0.5)
    asked = {"slide": ids(client)["large.png"], "stainer": "identity"}
    small = stain(client, "view", **asked, location=[0, 100], size=[10, 20])
    assert (small["state"], small["location"], small["size"]) == ("done", [0, 77], [66, 66])
    for corner in ([0, 0], [2550, 2550]):
        trial = new_trial(client, slide=asked["slide"], location=corner, size=[10, 10])
        assert (trial["location"], trial["size"]) == ([min(at, 2496) for at in corner], [64, 64])
    cut = new_trial(client, slide=asked["slide"], location=[0, 0], size=[2560, 2560], most_px=512)
    assert (cut["location"], cut["size"]) == ([1024, 1024], [512, 512])
    large = stain(client, "view", **asked, location=[0, 0], size=[2100, 90])
    assert (large["state"], large["is_slide"], large["size"]) == ("waiting", True, [2100, 90])
    assert client.post(
        "/api/where-maps", json={**asked, "stainer": "nuclear", "location": [0, 0], "size": [2100, 90]}
    ).json() == {"detail": "Zoom in to see where the stain would lie."}


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        ("view", {"stainer": "nonsense"}, "stainer"),
        ("view", {"stainer": "../../secret.png"}, "stainer"),
        ("view", {"size": [0, 10]}, "inside the slide"),
        ("view", {"location": [1000, 0]}, "inside the slide"),
        ("view", {"location": [-5, 0]}, "inside the slide"),
        ("view", {"fill": True}, "a measured look"),
        ("view", {"dials": {"share": 0.2}}, "a measured look"),
        ("view", {"where": {"source": "regions"}}, "a measured look"),
        ("view", {"where": {"source": "../secret.png"}}, "pattern"),
        ("view", {"where": {"source": "regions", "levels": {"a": 2}}}, "less than or equal to 1"),
        ("view", {"stainer": "nuclear", "where": {"source": "regions"}}, "at least one polygon"),
        ("view", {"stainer": "nuclear", "where": {"source": "regions", "regions": [{}]}}, "at least one polygon"),
        (
            "view",
            {"stainer": "nuclear", "where": {"source": "regions", "regions": [ONE], "levels": {"b": 1}}},
            "Region 1",
        ),
        ("slide", {"stainer": "nonsense"}, "stainer"),
        ("slide", {}, "pixel size"),
    ],
)
def test_stains_that_cannot_be(client: TestClient, kind: str, changes: dict[str, object], says: str) -> None:
    asked = {"slide": ids(client)["wide.png"], "stainer": "identity"}
    if kind == "view":
        asked |= {"location": [0, 0], "size": [100, 100]}
    answer = stain(client, kind, **{**asked, **changes})
    assert answer["status_code"] == 422
    assert says in str(answer["detail"])
    assert client.get("/api/jobs").json() == []


def test_where_is_chosen_by_id_and_said(client: TestClient, tmp_path: Path) -> None:
    grey = PIL.Image.fromarray(np.full((32, 64), 200, np.uint8))
    grey.save(tmp_path / "slides" / "heat.png")
    grey.crop((0, 0, 32, 32)).save(tmp_path / "slides" / "of another shape.png")
    found = ids(client)
    slide = found["wide.png"]
    lines = client.get("/api/wheres", params={"slide": slide}).json()
    assert [(line["id"], line["name"]) for line in lines] == [
        ("tissue", "tissue"),
        ("regions", "regions"),
        (found["heat.png"], "heat.png"),
    ]
    assert all(line["claim"] for line in lines)
    asked = {"slide": slide, "stainer": "nuclear", "location": [100, 20], "size": [80, 72]}
    levels = {"Region 1": 0.5, "elsewhere": 0.25}
    regions = {"source": "regions", "regions": [ONE], "levels": levels}
    for where in ({"source": "tissue"}, {"source": found["heat.png"]}, regions):
        answer = client.post("/api/where-maps", json={**asked, "where": where})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), answer.text
        assert PIL.Image.open(io.BytesIO(answer.content)).size == (40, 36)
        assert answer.headers["chromogen-box"] == "100,20,80,72"
    assert client.post("/api/where-maps", json={**asked, "stainer": "normalize"}).status_code == 422
    made = stain(client, "view", **asked, where=regions, fill=True)
    assert made["status_code"] == 201
    assert "regions that a person drew (Region 1 50 %, elsewhere 25 %)" in made["where"]
    assert made["is_filled"]
    assert made["unlike_percent"] >= 0
    assert str(tmp_path) not in json.dumps(made)
    kept = client.get(f"/api/jobs/{made['id']}/regions.geojson").json()
    assert kept["features"][0]["geometry"] == SQUARE
    hatched = client.get(f"/api/jobs/{made['id']}/unlike.png")
    assert PIL.Image.open(io.BytesIO(hatched.content)).size == (80, 72)
    plain = stain(client, "view", **{**asked, "stainer": "identity"})
    for name in ("regions.geojson", "unlike.png"):
        assert client.get(f"/api/jobs/{plain['id']}/{name}").status_code == 404
    assert client.post(f"/api/jobs/{made['id']}/remove").status_code == 204
    assert not (tmp_path / "results" / made["id"]).exists()


def test_a_slide_is_stained_in_the_background(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"done": done, "of": 4, "seconds": 1.0 * done}) for done in (1, 2)]
    trace, said = "\n".join([*lines, ""]), f"Error: no {tmp_path / 'slides' / 'x'}"
    code = f"import sys; open('trace.jsonl', 'w').write({trace!r}); sys.exit({said!r})"
    monkeypatch.setattr(Stain, "command", worker(code))
    made = stain(client, "slide", slide=ids(client)["wide.png"], stainer="identity", mpp=0.5)
    assert made["command"] == "chromogen stain wide.png --stainer identity --mpp 0.5 -o wide_identity.ome.tif"
    path = f"/api/jobs/{made['id']}"
    until(lambda: client.get(path).json()["state"] == "failed")
    followed = client.get(path).json()
    assert followed["part"] == 0.5
    assert followed["status"] == "Failed: no x", "no folder of this machine"
    assert str(tmp_path) not in client.get("/api/jobs").text
    assert client.get(f"{path}/result").status_code == 404
    assert client.get(f"{path}/region.png").status_code == 404
    assert client.get(f"{path}/labelled.png").status_code == 404
    monkeypatch.setattr(Stain, "command", worker("open('wide_identity.ome.tif', 'w').write('made')"))
    client.post(f"{path}/resume", json={})
    until(lambda: client.get(path).json()["state"] == "done")
    answer = client.get(f"{path}/result")
    assert answer.content == b"made"
    assert 'filename="virtual-wide_identity.ome.tif"' in answer.headers["content-disposition"]
    assert client.delete(path).json()["state"] == "done"
    assert client.get("/api/jobs/20260101-000000-abcdef").status_code == 404


def test_models_of_the_folders_are_asked_for_by_id(client: TestClient, tmp_path: Path) -> None:
    models = tmp_path / "slides" / "models"
    models.mkdir()
    write_model(models / "er.safetensors", model(look="nuclear"))
    write_model(tmp_path / "outside.safetensors", model())
    (models / "bad.safetensors").write_bytes(b"weights")
    (models / "bad.onnx").write_bytes(b"weights")
    (tmp_path / "slides" / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    lines = {line["name"]: line for line in client.get("/api/stainers").json()[len(STAINERS) :]}
    assert sorted(lines) == [f"models/{name}" for name in ("bad.onnx", "bad.safetensors", "er.safetensors")]
    found = lines["models/er.safetensors"]
    assert found["problem"] == ""
    assert found["claim"].startswith("where the marker lies")
    assert [dial["name"] for dial in found["dials"]] == ["seed", "intensity", "counterstain"], "no share"
    assert all(lines[f"models/bad.{suffix}"]["problem"] for suffix in ("onnx", "safetensors"))
    assert str(tmp_path) not in json.dumps(lines)
    asked = {"slide": ids(client)["wide.png"], "location": [0, 0], "size": [96, 80]}
    broken = stain(client, "view", **asked, stainer=lines["models/bad.safetensors"]["id"])
    assert broken["status_code"] == 422
    assert str(tmp_path) not in json.dumps(broken)
    for dials in ({}, {"intensity": 0.5}):
        made = stain(client, "view", **asked, stainer=found["id"], dials=dials)
        assert made["status_code"] == 201
        assert "--stainer models/er.safetensors" in str(made["command"])
        assert str(tmp_path) not in json.dumps(made)


def test_a_generator_is_told_what_its_file_does_not_say(client: TestClient, tmp_path: Path) -> None:
    generators = pytest.importorskip("generators", reason="the extra `onnx` is not installed")
    generators.saved(tmp_path / "slides" / "cut.onnx", generators.normed(64))
    generators.saved(tmp_path / "slides" / "mix.onnx", generators.conv(), {"mpp": "0.25"})
    cut, mix = client.get("/api/stainers").json()[len(STAINERS) :]
    assert [(one["name"], one["asks_mpp"], one["value_range"], one["mpp"]) for one in (cut, mix)] == [
        ("cut.onnx", True, "-1..1", None),
        ("mix.onnx", False, "", 0.25),
    ]
    asked = {"slide": ids(client)["wide.png"], "location": [0, 0], "size": [96, 80], "stainer": cut["id"]}
    assert "mpp" in str(stain(client, "view", **asked)["detail"])
    made = stain(client, "view", **asked, trained_mpp=0.5)
    assert made["status_code"] == 201, made
    assert "--stainer cut.onnx --model-mpp 0.5 --mpp 0.5" in str(made["command"])
    assert stain(client, "view", **asked, trained_mpp=0.5, value_range="nonsense")["status_code"] == 422


def test_what_has_ended_is_removed(client: TestClient, tmp_path: Path) -> None:
    slide = ids(client)["wide.png"]
    made = stain(client, "view", slide=slide, stainer="identity", location=[0, 0], size=[96, 80])
    path = f"/api/jobs/{made['id']}"
    assert client.post(f"{path}/remove", json={}).status_code == 204
    assert client.get(path).status_code == 404
    assert client.get("/api/jobs").json() == []
    assert not (tmp_path / "results" / str(made["id"])).exists()
    assert client.post(f"{path}/remove", json={}).status_code == 404
    for hostile in ("..%2f..", "%2e%2e", "20260101-000000-abcdef%2f.."):
        assert client.post(f"/api/jobs/{hostile}/remove", json={}).status_code in (404, 405, 422)
    trial = new_trial(client)
    finished(client, trial["id"])
    assert client.post(f"/api/jobs/{trial['id']}/remove", json={}).status_code == 204
    assert not (tmp_path / "results" / str(trial["id"])).exists()
    assert list(ids(client)) == ["broken.svs", "ihc.png", "wide.png"]


def test_slides_of_one_case_say_so(client: TestClient, tmp_path: Path) -> None:
    for name in ("7_HE.png", "7_Ki67.png", "8_HE.png"):
        write_image(tmp_path / "slides" / name, IHC[:64, :64].copy())
    cases = {line["name"]: line["case"] for line in client.get("/api/slides").json()}
    assert cases["7_HE.png"] == cases["7_Ki67.png"] == "7"
    assert cases["8_HE.png"] == "8"


def test_head_answers_as_get_without_the_body(client: TestClient) -> None:
    for path in ("/api/slides", f"/api/slides/{ids(client)['ihc.png']}/tiles/0/0/0.jpg"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
    assert client.head("/api/slides/0000000000000000").status_code == 404


def test_stainers_say_their_dials_and_take_them(client: TestClient) -> None:
    dials = {line["id"]: [dial["name"] for dial in line["dials"]] for line in client.get("/api/stainers").json()}
    assert {"share", "seed"} <= set(dials["nuclear"])
    assert "share" not in dials["epithelial"]
    assert dials["identity"] == []
    asked = {"slide": ids(client)["ihc.png"], "stainer": "nuclear", "location": [0, 0], "size": [128, 128]}
    for wrong, says in (({"hue": 1}, "some of"), ({"share": 2}, "0 to 1"), ({"share": -0.1}, "0 to 1")):
        answer = client.post("/api/stains", json={**asked, "dials": wrong})
        assert answer.status_code == 422
        assert says in answer.json()["detail"]
    answer = client.post("/api/stains", json={**asked, "stainer": "identity", "dials": {"share": 0.5}})
    assert answer.status_code == 422, "a stainer without dials"
    made = client.post("/api/stains", json={**asked, "dials": {"share": 0.9}}).json()
    assert "--share 0.9" in made["command"]
    assert "stainer_of_look(load_look('nuclear'), share=0.9)" in made["python"]


def test_the_look_of_an_exemplar_is_kept_as_a_stainer(client: TestClient, tmp_path: Path) -> None:
    asked = {"exemplar": ids(client)["ihc.png"], "name": "../../my exemplar.png"}
    made = [client.post("/api/looks", json=asked).json()["stainer"] for _ in range(2)]
    assert [line["name"] for line in made] == ["my-exemplar.json", "my-exemplar-2.json"]
    listed = {line["id"]: line for line in client.get("/api/stainers").json()}
    assert all(line["id"] in listed for line in made)
    files = [file.relative_to(tmp_path) for file in tmp_path.rglob("*.json")]
    assert {file.parent.name for file in files} == {".looks"}, "nowhere else"
    view = {"slide": ids(client)["ihc.png"], "stainer": made[0]["id"], "location": [0, 0], "size": [128, 128]}
    assert client.post("/api/stains", json=view).status_code == 201
    write_image(tmp_path / "slides" / "blank.png", np.full((256, 256, 3), 240, np.uint8))
    answer = client.post("/api/looks", json={"exemplar": ids(client)["blank.png"]})
    assert answer.status_code == 422
    assert str(tmp_path) not in answer.text


def test_json_that_is_no_look_is_no_stainer(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "slides" / "notes.json").write_text('{"format": "something else"}')
    (tmp_path / "slides" / "broken.json").write_text('{"format": "chromogen look 1"}')
    named = {line["name"]: line["problem"] for line in client.get("/api/stainers").json()}
    assert "notes.json" not in named
    assert named["broken.json"], "a look that is damaged says why"
