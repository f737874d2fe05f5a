"""The page's types are those of the server's models."""

import ast
import importlib.util
from pathlib import Path

import pytest

from chromogen.app.view.state import JobLine

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "page_types.py"
spec = importlib.util.spec_from_file_location("page_types", SCRIPT)
assert spec
assert spec.loader
page_types = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page_types)


@pytest.mark.parametrize(
    ("annotation", "typescript"),
    [
        ("str", "string"),
        ("float | None", "number | null"),
        ("tuple[int, int] | None", "[number, number] | null"),
        ("tuple[str, ...]", "string[]"),
        ("list[str | None]", "(string | null)[]"),
        ("dict[str, list[Cell]]", "Record<string, Cell[]>"),
        ("Literal['a', 'b']", '"a" | "b"'),
        ("Annotated[float, Field(ge=0)]", "number"),
    ],
)
def test_annotations(annotation: str, typescript: str) -> None:
    assert page_types.typescript(ast.parse(annotation, mode="eval").body) == typescript


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="add it to page_types"):
        page_types.typescript(ast.parse("lambda: 1", mode="eval").body)


def test_every_field_of_an_answer_is_there() -> None:
    types = {name: page_types.written(name, node) for name, node in page_types.needed(page_types.definitions())}
    for field in JobLine.model_fields:
        assert f"  {field}: " in types["JobLine"]
    assert "extends SlideLine" in types["SlideFacts"]
