import math
from pathlib import Path

import pytest

from chromogen.evaluation.agreement import share_interval
from chromogen.evaluation.blind import score_answers, score_as_json, score_line

KEY = """crop,kind,source,file,x,y,mpp
aa,real,s1,s1.png,0,0,0.5
bb,real,s2,s2.png,0,0,0.5
cc,virtual,s1,s1.png,0,0,0.5
dd,virtual,s1,s1.png,256,0,0.5
"""
SHEET = "crop,answer\naa,real\nbb,virtual\ncc,virtual\ndd,virtual\n"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "key.csv").write_text(KEY)
    return tmp_path / "key.csv"


def sheet(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    (tmp_path / "answers.csv").write_bytes(text.encode(encoding))
    return tmp_path / "answers.csv"


def wilson(count: int, of: int) -> tuple[float, float]:
    """By the formula of 1927."""
    z, p = 1.959963984540054, count / of
    middle = p + z**2 / (2 * of)
    reach = z * math.sqrt(p * (1 - p) / of + z**2 / (4 * of**2))
    return (middle - reach) / (1 + z**2 / of), (middle + reach) / (1 + z**2 / of)


@pytest.mark.parametrize(("count", "of"), [(0, 7), (30, 48), (77, 77)])
def test_the_interval_is_wilsons(count: int, of: int) -> None:
    assert share_interval(count, of) == pytest.approx(wilson(count, of), abs=1e-9)


def test_answers_are_counted_by_kind_and_source(tmp_path: Path, key: Path) -> None:
    score = score_answers(sheet(tmp_path, SHEET), key)
    found = score_as_json(score)
    low, high = wilson(3, 4)
    assert found["told_right"] == {
        "right": 3,
        "of": 4,
        "percent": 75.0,
        "ci95": pytest.approx([100 * low, 100 * high]),
    }
    assert {kind: (told["right"], told["of"]) for kind, told in found["kinds"].items()} == {
        "real": (1, 2),
        "virtual": (2, 2),
    }
    assert found["sources"]["real"]["s2"]["right"] == 0
    assert found["sources"]["virtual"]["s1"]["of"] == 2
    assert score_line(score) == (
        "Told right: 3 of 4 crops, 75 % (95 % interval 30 to 95 %; guessing gives 50 %): "
        "real 1 of 2, virtual 2 of 2."
    )


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (SHEET.replace(",", ";"), "utf-8-sig"),
        (SHEET.replace(",", "\t").replace("\n", "\r\n"), "utf-8"),
        ("Crop,Answer,note\nDD , Virtual,x\n\ncc,VIRTUAL,\nbb,virtual,\naa,real,sure\n,,\n", "utf-8"),
    ],
)
def test_what_spreadsheets_save_is_read(tmp_path: Path, key: Path, text: str, encoding: str) -> None:
    assert score_answers(sheet(tmp_path, text, encoding), key).all.right == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SHEET.replace("dd,virtual\n", ""), "an answer for every crop, got none for dd"),
        (
            SHEET.replace("aa,real", "aa,").replace("bb,virtual", "bb, "),
            "an answer for every crop, got none for aa, bb",
        ),
        (SHEET + "zz,real\n", "a sheet of the key's crops, got zz besides"),
        (SHEET + "aa,virtual\n", "every crop once, got aa more than once"),
        (SHEET.replace("aa,real", "aa,maybe"), "real or virtual for each crop, got 'maybe' for aa"),
        ("name,answer\naa,real\n", "a table with the columns crop, answer, got name, answer"),
        ("", "a table with the columns crop, answer, got none"),
    ],
)
def test_sheets_that_do_not_fit(tmp_path: Path, key: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_answers(sheet(tmp_path, text), key)


def test_files_that_are_no_sheet_and_no_key(tmp_path: Path, key: Path) -> None:
    filled = sheet(tmp_path, SHEET)
    with pytest.raises(ValueError, match="`key` to be a table with the columns crop, kind"):
        score_answers(filled, filled)
    with pytest.raises(FileNotFoundError, match="`key` to be an existing CSV file"):
        score_answers(filled, tmp_path / "nowhere.csv")
    key.write_text(KEY.partition("\n")[0])
    with pytest.raises(ValueError, match="`key` to be the key of a blind test"):
        score_answers(filled, key)
    (tmp_path / "answers.csv").write_bytes("crop,answer\na\xe4,real".encode("latin-1"))
    with pytest.raises(ValueError, match="in UTF-8"):
        score_answers(filled, key)
