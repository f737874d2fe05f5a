"""Writes the types of the server's answers for the page, `web/src/server.ts`, from the models in the source.

The source is read as text, so that a build needs neither FastAPI nor torch: an isolated one has neither.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SERVER = ROOT / "src" / "chromogen" / "app"
WRITTEN = ROOT / "web" / "src" / "server.ts"
ANSWERS: tuple[str, ...] = (
    "PageFacts",
    "Beside",
    "Fitted",
    "JobLine",
    "MeasuredLook",
    "Measurement",
    "NucleiInView",
    "SlideFacts",
)
ANSWERS += ("Stage", "Uploaded", "WhereLine")
SIMPLE = {"str": "string", "int": "number", "float": "number", "FiniteFloat": "number", "bool": "boolean"}
SIMPLE |= {"None": "null", "Any": "unknown"}
Definition = ast.ClassDef | ast.Assign


def typescript(node: ast.expr) -> str:
    """A Python annotation as TypeScript has it. Raises: ValueError for one that is not known here."""
    match node:
        case ast.Constant(value=None):
            return "null"
        case ast.Constant(value=str(text)):
            return json.dumps(text)
        case ast.Name(id=name):
            return SIMPLE.get(name, name)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{typescript(left)} | {typescript(right)}"
        case ast.Subscript(value=ast.Name(id=kind), slice=inner):
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return _generic(kind, parts)
    raise ValueError(f"Expected a known annotation, got {ast.unparse(node)!r}; add it to {Path(__file__).name}.")


def _generic(kind: str, parts: list[ast.expr]) -> str:
    if kind == "Literal":
        return " | ".join(map(typescript, parts))
    if kind == "Annotated":
        return typescript(parts[0])
    if kind == "dict":
        return f"Record<{', '.join(map(typescript, parts))}>"
    if kind == "tuple" and ast.unparse(parts[-1]) != "...":
        return f"[{', '.join(map(typescript, parts))}]"
    inner = typescript(parts[0])
    return f"({inner})[]" if "|" in inner else f"{inner}[]"


def definitions() -> dict[str, list[Definition]]:
    """The classes and aliases of the server by name."""
    modules = [ast.parse(file.read_text(encoding="utf-8")) for file in sorted(SERVER.rglob("*.py"))]
    found: dict[str, list[Definition]] = {}
    for node in (node for module in modules for node in module.body):
        if isinstance(node, ast.ClassDef):
            found.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node)
    return found


def written(name: str, node: Definition) -> str:
    """A type by its name."""
    if isinstance(node, ast.Assign):
        return f"export type {name} = {typescript(node.value)};\n"
    bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id != "BaseModel"]
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
    lines = [f"  {one.target.id}: {typescript(one.annotation)};\n" for one in fields]  # type: ignore[union-attr]
    about = (ast.get_docstring(node) or "").partition("\n")[0]
    head = f"export interface {name}{f' extends {bases[0]}' if bases else ''}"
    return f"/** {about} */\n{head} {{\n{''.join(lines)}}}\n"


def needed(found: dict[str, list[Definition]]) -> Iterator[tuple[str, Definition]]:
    """The answers, and all that they are made of. Raises: ValueError for a name that two of them have."""
    names, seen = list(ANSWERS), set()
    for name in names:
        if name in seen:
            continue
        seen.add(name)
        if len(found[name]) > 1:
            raise ValueError(f"Expected one {name!r} in the server, got {len(found[name])}; rename one.")
        node = found[name][0]
        yield name, node
        parts = [node.value] if isinstance(node, ast.Assign) else [*node.bases]
        parts += [one.annotation for one in getattr(node, "body", []) if isinstance(one, ast.AnnAssign)]
        used = {part.id for whole in parts for part in ast.walk(whole) if isinstance(part, ast.Name)}
        names += sorted(used & found.keys())


if __name__ == "__main__":
    known = definitions()
    head = f"// Written by scripts/{Path(__file__).name} from the server's models: change those.\n\n"
    WRITTEN.write_text(head + "\n".join(written(*one) for one in needed(known)), encoding="utf-8")
