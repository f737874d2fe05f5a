"""Public docstrings say what types cannot: above all the shapes of arrays."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import chromogen

SOURCE = Path(chromogen.__file__).parent
# What a method developer calls; the convolutions and networks below them have their own tests.
ROOMS = ("image", "page", "stains", "evaluation")
STYLE = "canvas encoder gram loss measured_style objective optimize recipes start".split()
ARRAY = re.compile(r"(?:Image|Tensor|NDArray|Array)\b")
SHAPE = re.compile(r"\((?:\.\.\.|[A-Za-z0-9]+),[^()]*\)")


def test_a_shape_is_seen_and_a_remark_is_not() -> None:
    for shape in ("uint8 (H, W, 3)", "(B, C, H, W)", "(N,)", "(..., 3)"):
        assert SHAPE.search(shape)
    for remark in ("Gram matrices (Gatys et al. 2016)", "f(x)", "(local)"):
        assert not SHAPE.search(remark)


def modules() -> list[Path]:
    rooms = [path for room in ROOMS for path in (SOURCE / f"{room}.py", *sorted((SOURCE / room).glob("*.py")))]
    stainer = SOURCE / "staining" / "stainer.py"
    return (
        [path for path in rooms if path.is_file()]
        + [stainer]
        + [SOURCE / "style" / f"{name}.py" for name in STYLE]
    )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrays_have_a_shape(path: Path) -> None:
    """In the docstring of the function, or once in that of its module."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    everywhere = ast.get_docstring(module) or ""
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and takes_arrays(node):
            said = everywhere + (ast.get_docstring(node) or "")
            assert SHAPE.search(said), f"{node.name} does not say the shape of what it takes"


def takes_arrays(node: ast.FunctionDef) -> bool:
    arguments = [*node.args.args, *node.args.kwonlyargs]
    return any(a.annotation and ARRAY.match(ast.unparse(a.annotation).strip("'")) for a in arguments)


def public() -> Iterator[tuple[str, object]]:
    """The functions and classes of the API, and the methods and properties of these."""
    for name in chromogen.__all__:
        found = getattr(chromogen, name)
        if inspect.isfunction(found) or inspect.isclass(found):
            yield name, found
        if inspect.isclass(found):
            own = [m for m in vars(found).items() if not m[0].startswith("_")]
            yield from ((f"{name}.{m}", member) for m, member in own if callable(member) or is_property(member))


def is_property(member: object) -> bool:
    return isinstance(member, property) or type(member).__name__ == "cached_property"


@pytest.mark.parametrize(
    ("name", "found"), list(public()), ids=lambda found: found if isinstance(found, str) else ""
)
def test_the_api_is_documented(name: str, found: object) -> None:
    """A sentence of one's own: what a dataclass or tuple makes up of its fields is none."""
    first, _, _ = (inspect.getdoc(found) or "").partition("\n")
    assert first.endswith((".", ":", "?", ")")), name
    assert not first.startswith(f"{name}("), name


def test_what_is_documented_is_there() -> None:
    for path in modules():
        name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        assert importlib.import_module(name).__doc__
