"""What a slide of ours says of itself, and where in the file it stands."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePath
from typing import Any
from xml.etree import ElementTree

from chromogen.errors import expected
from chromogen.image import PathLike, as_plain, is_image, read_provenance
from chromogen.provenance import NOTICE, __version__, versions

SOFTWARE = f"chromogen {__version__}"
NAMESPACE = "chromogen/virtual-stain"  # of our annotation in OME-XML
ATTRIBUTE = "chromogen"  # of our annotation in OME-Zarr

VIRTUAL = ("stainer", "target_stain", "stainer_hash", "where", "notice")
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_SIZES = "openmicroscopy.org/PyramidResolution"  # where Bio-Formats writes the sizes of levels


@dataclass(frozen=True)
class Facts:
    """How a virtual slide came to be. It all goes into the file; `anonymous` leaves out what may name a person.

    `mpp` is um per pixel of the written picture; `name` often the source's file name, `made` a date and time.
    `where` says by which source the stain lies where it does. `settings` and `statistics` hold what JSON can hold,
    and file names as `Path`.
    Raises: ValueError if `mpp` is no length.
    """

    mpp: float
    stainer: str
    name: str | None = None
    made: str | None = None
    stainer_hash: str | None = None
    target_stain: str | None = None
    source_quickhash: str | None = None
    source_mpp: float | None = None
    white: tuple[int, ...] | None = None
    where: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notice: str = NOTICE

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mpp) and self.mpp > 0):
            raise expected("mpp", "a positive number of um/px", self.mpp, "give the pixels' real size")

    def anonymous(self) -> Facts:
        """Without name, date, and all settings that name a file or repeat the name."""
        secret = PurePath(self.name).name.partition(".")[0].casefold() if self.name else ""
        settings, statistics = _without_names(self.settings, secret), _without_names(self.statistics, secret)
        where = None if self.where is None else _without_names(self.where, secret)
        return replace(self, name=None, made=None, where=where, settings=settings, statistics=statistics)

    def as_json(self) -> dict[str, Any]:
        """Plain values, without those that are not known."""
        known = {name: value for name, value in asdict(self).items() if value is not None}
        return dict(json.loads(json.dumps(known, default=as_plain)))


def ome_xml(facts: Facts, sizes: Sequence[tuple[int, int]]) -> bytes:
    """The OME-XML of an RGB picture with levels of `sizes` (w, h), finest first, in UTF-8.

    After the schema of 2016-06; the facts are a MapAnnotation.
    """
    root = ElementTree.Element("OME", {"xmlns": _OME, "xmlns:xsi": _XSI, "Creator": SOFTWARE})
    root.set("xsi:schemaLocation", f"{_OME} {_OME}/ome.xsd")
    image = _add(root, "Image", ID="Image:0", Name=_text(facts.name or "virtual stain"))
    _add(image, "Description").text = _text(facts.notice)
    _add_pixels(image, facts.mpp, sizes[0])
    annotations = _add(root, "StructuredAnnotations")
    known = {name: _as_text(value) for name, value in facts.as_json().items()}
    levels = {str(number): f"{w} {h}" for number, (w, h) in enumerate(sizes) if number}
    for number, (namespace, values) in enumerate([(NAMESPACE, known), *([(_SIZES, levels)] if levels else [])]):
        _add(image, "AnnotationRef", ID=f"Annotation:{number}")
        annotation = _add(annotations, "MapAnnotation", ID=f"Annotation:{number}", Namespace=namespace)
        pairs = _add(annotation, "Value")
        for key, value in values.items():
            _add(pairs, "M", K=key).text = value
    # Not ASCII: Bio-Formats does not read numeric character references such as that of the micro sign.
    body: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=False)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + body


def read_facts(path: PathLike) -> Facts | None:
    """The facts in an OME-TIFF or OME-Zarr of ours; None in any other file.

    Raises: FileNotFoundError or another OSError where there is nothing to read.
    """
    path = Path(path)
    try:
        return _facts(_zarr_facts(path) if path.is_dir() else _tiff_facts(path))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, ElementTree.ParseError):
        return None  # other people's metadata


def facts_if_virtual(path: Path) -> dict[str, Any] | None:
    """What a slide or image that Chromogen stained says of that; None for others."""
    facts = read_facts(path)
    said = facts.as_json() if facts else (read_provenance(path) if is_image(path) else None) or {}
    return {name: said[name] for name in VIRTUAL if name in said} if "stainer" in said else None


def _zarr_facts(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["attributes"][ATTRIBUTE])


def _tiff_facts(path: Path) -> dict[str, Any]:
    from tifffile import TiffFile

    with TiffFile(path) as file:
        xml = file.ome_metadata or ""
    root = ElementTree.fromstring(xml)  # noqa: S314 - expat from 2.4.1 on stops entities that explode
    pairs = root.findall(f".//{{{_OME}}}MapAnnotation[@Namespace='{NAMESPACE}']/{{{_OME}}}Value/{{{_OME}}}M")
    return {pair.attrib["K"]: _from_text(pair.attrib["K"], pair.text or "") for pair in pairs}


def _facts(found: dict[str, Any]) -> Facts:
    """Of what is known here; a later version may say more."""
    known = {name: found[name] for name in _NAMES if name in found}
    if "white" in known:
        known["white"] = tuple(known["white"])
    return Facts(**known)


_NAMES = [fact.name for fact in fields(Facts)]
_WORDS = {fact.name for fact in fields(Facts) if str(fact.type).startswith("str")}  # they stand as they are


def _as_text(value: object) -> str:
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _from_text(name: str, text: str) -> Any:
    return text if name in _WORDS else json.loads(text)


def _text(text: str) -> str:
    """What XML can hold of a text."""
    return "".join(c for c in text.encode("utf-8", "replace").decode() if c.isprintable())


def _add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, attributes)


def _add_pixels(image: ElementTree.Element, mpp: float, size: tuple[int, int]) -> None:
    sides = {"SizeX": size[0], "SizeY": size[1], "SizeC": 3, "SizeZ": 1, "SizeT": 1}
    physical = {f"PhysicalSize{axis}": f"{mpp:.9g}" for axis in "XY"} | {
        f"PhysicalSize{axis}Unit": "µm" for axis in "XY"
    }
    kind = {
        "DimensionOrder": "XYCZT",
        "Type": "uint8",
        "SignificantBits": "8",
        "Interleaved": "true",
        "BigEndian": "false",
    }
    pixels = _add(image, "Pixels", ID="Pixels:0", **kind, **{k: str(v) for k, v in sides.items()}, **physical)
    _add(pixels, "Channel", ID="Channel:0:0", SamplesPerPixel="3")
    _add(pixels, "TiffData", IFD="0", PlaneCount="1")


def _without_names(values: Mapping[str, Any], secret: str) -> dict[str, Any]:
    """Values that name no file, at any depth."""
    kept = {key: value for key, value in values.items() if not _names_a_file(value, secret)}
    return {k: _without_names(v, secret) if isinstance(v, Mapping) else v for k, v in kept.items()}


def _names_a_file(value: object, secret: str) -> bool:
    if isinstance(value, list | tuple):
        return any(_names_a_file(item, secret) for item in value)
    if isinstance(value, str):
        return "/" in value or "\\" in value or bool(secret and secret in value.casefold())
    return isinstance(value, PurePath)
