"""Slides, virtual stains and nuclei as one SpatialData object, in um of the H&E (Marconato et al. 2025)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from chromogen.errors import expected, missing, short
from chromogen.image import PathLike
from chromogen.whole_slide.lazy import LazyPicture, lazy_slide

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from spatialdata import SpatialData

FRAME = "um"  # the name of the coordinate system
SMALLEST_LEVEL_PX = 1024


def spatial_data(
    images: Mapping[str, PathLike | LazyPicture], nuclei: Mapping[str, PathLike] | None = None
) -> SpatialData:
    """Images of one tissue and their nuclei as SpatialData, all in one coordinate system called `um`.

    `images` are slides, virtual stains of them, or lazy pictures, by names of your own; pixels are read when they
    are computed. A stained region lies where it was cut out, and `attrs` has the notices of virtual stains.
    `nuclei` are GeoJSON files that `chromogen nuclei` wrote, by the name of the image that they are of. Each
    becomes shapes `NAME_nuclei` and a table (AnnData) `NAME_nuclei_table`: measurements in `X`, classes in `obs`.
    Raises: ValueError without the extra `spatialdata`, or for an image that states no pixel size; OSError.
    """
    try:
        from spatialdata import SpatialData
    except ImportError as error:
        advice = "pip install 'chromogen[spatialdata]'"
        raise expected("spatialdata", "installed", short(error), advice) from error

    pictures = {name: _with_mpp(name, image) for name, image in images.items()}
    elements: dict[str, Any] = {name: _image(picture) for name, picture in pictures.items()}
    for name, file in (nuclei or {}).items():
        if name not in pictures:
            raise expected("nuclei", f"of one of the images ({', '.join(pictures)})", name)
        shapes, frame = f"{name}_nuclei", nuclei_frame(file)
        elements[shapes] = _shapes(frame, pictures[name])
        elements[f"{shapes}_table"] = _table(frame, shapes)
    notices = {name: picture.notice for name, picture in pictures.items() if picture.notice}
    return SpatialData.init_from_elements(elements, attrs={"chromogen": {"notices": notices}})


def nuclei_frame(file: PathLike) -> GeoDataFrame:
    """The nuclei of a GeoJSON file by `chromogen nuclei`: outlines in level-0 pixels, `class` and measurements.

    Needs the extra `spatialdata`. Raises: FileNotFoundError; ValueError for other content.
    """
    import geopandas

    file = Path(file)
    if not file.is_file():
        raise missing("nuclei", "a GeoJSON file", file)
    try:
        rows = list(_rows(json.loads(file.read_text("utf-8"))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        advice = "give the file that `chromogen nuclei` wrote"
        raise expected("nuclei", "a GeoJSON file of nuclei", f"{file} ({error})", advice) from error
    return geopandas.GeoDataFrame(rows, columns=None if rows else ["geometry", "class"], geometry="geometry")


def _rows(collection: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for feature in collection["features"]:
        properties = feature["properties"]
        yield {
            "geometry": shapely.geometry.shape(feature["geometry"]),
            "class": properties["classification"]["name"],
            **properties["measurements"],
        }


def _with_mpp(name: str, image: PathLike | LazyPicture) -> LazyPicture:
    picture = image if isinstance(image, LazyPicture) else lazy_slide(image)
    if picture.mpps[0] is None:
        raise expected("images", "of known pixel size", name, "open it by `lazy_slide` with `mpp`")
    return picture


def _to_um(picture: LazyPicture) -> dict[str, Any]:
    """From pixels to um of the H&E."""
    from spatialdata.transformations import Scale, Sequence, Translation

    axes, mpp = ("x", "y"), picture.mpps[0]
    return {FRAME: Sequence([Scale([mpp, mpp], axes=axes), Translation(list(picture.origin_um), axes=axes)])}


def _image(picture: LazyPicture) -> Any:
    """An image whose levels halve until one is small: SpatialData makes its own levels."""
    from spatialdata.models import Image2DModel

    finest = picture.levels[0]
    halvings = max(0, math.ceil(math.log2(max(finest.shape[:2]) / SMALLEST_LEVEL_PX)))
    return Image2DModel.parse(
        finest.transpose(2, 0, 1),
        dims=("c", "y", "x"),
        c_coords=["r", "g", "b"],
        scale_factors=[2] * halvings or None,
        transformations=_to_um(picture),
    )


def _shapes(frame: GeoDataFrame, picture: LazyPicture) -> Any:
    from spatialdata.models import ShapesModel

    return ShapesModel.parse(frame[["geometry"]], transformations=_to_um(picture))


def _table(frame: GeoDataFrame, shapes: str) -> Any:
    """AnnData that annotates the shapes: measurements in `X`, the class in `obs`."""
    import anndata
    import pandas
    from spatialdata.models import TableModel

    measured = frame.drop(columns=["geometry", "class"]).astype(np.float64)
    classes = pandas.Categorical(frame["class"])
    obs = pandas.DataFrame({"class": classes, "region": pandas.Categorical([shapes] * len(frame))})
    obs["nucleus"] = frame.index.to_numpy()
    obs.index = obs.index.astype(str)
    table = anndata.AnnData(measured.to_numpy(), obs=obs, var=pandas.DataFrame(index=list(measured.columns)))
    return TableModel.parse(table, region=shapes, region_key="region", instance_key="nucleus")
