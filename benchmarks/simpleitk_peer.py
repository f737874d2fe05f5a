"""SimpleITK on the cases of `registration.py`: mutual information, then B-splines or demons. Needs SimpleITK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - as its manual has it
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.stains.deconvolution import optical_density_od10

Array = NDArray[np.float64]
BINS = 32  # of Mattes mutual information (2003)
SAMPLED, SEED = 0.25, 7
DEMONS_SHRUNK, DEMONS_STEPS, DEMONS_SMOOTH_PX = (8, 4, 2, 1), 60, 3.0


def ways(he: Image, ihc: Image) -> Iterator[tuple[str, Callable[[], Callable[[Array], Array]]]]:
    """Names of what SimpleITK is tried with, and what registers both so: a move of points (N, 2) in px."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    for light in ("red", "grey"):
        for bend in (_none, _splines, _demons):
            yield f"{light}{bend.__name__}", partial(_moved, he, ihc, light, bend)


def _moved(he: Image, ihc: Image, light: str, bend: Callable[..., Any]) -> Callable[[Array], Array]:
    fixed, moving = (_density(image, light) for image in (he, ihc))
    affine = _affine(fixed, moving)
    parts = [affine, bend(fixed, moving, affine)]
    whole = sitk.CompositeTransform([part for part in parts if part is not None])
    return lambda points: np.array([whole.TransformPoint(tuple(map(float, p - 0.5))) for p in points]) + 0.5


def _density(image: Image, light: str) -> Any:
    """Density of red light, mostly hematoxylin, or of all light."""
    density = optical_density_od10(image).clip(0)
    one = density[..., 0] if light == "red" else density.mean(2)
    return sitk.GetImageFromArray((one / np.percentile(one, 99)).clip(0, 1).astype(np.float32))


def _method(shrunk: list[int], smoothed: list[float]) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLED, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(shrunk)
    method.SetSmoothingSigmasPerLevel(smoothed)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    return method


def _affine(fixed: Any, moving: Any) -> Any:
    """First turned and moved, then any affine."""
    middle = sitk.CenteredTransformInitializerFilter.GEOMETRY
    rigid = sitk.Euler2DTransform(
        sitk.CenteredTransformInitializer(fixed, moving, sitk.Euler2DTransform(), middle)
    )
    method = _method([16, 8, 4], [8, 4, 2])
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(rigid, True)
    method.Execute(fixed, moving)
    affine = sitk.AffineTransform(2)
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    affine.SetCenter(rigid.GetCenter())
    method.SetInitialTransform(affine, True)
    method.Execute(fixed, moving)
    return affine


def _none(_fixed: Any, _moving: Any, _affine: Any) -> None:
    return None


def _splines(fixed: Any, moving: Any, affine: Any) -> Any:
    spline = sitk.BSplineTransformInitializer(fixed, [6, 6], 3)
    method = _method([8, 4, 2], [4, 2, 1])
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransformAsBSpline(spline, True, [1, 2, 4])
    method.SetOptimizerAsLBFGS2(1e-5, numberOfIterations=60)
    method.Execute(fixed, moving)
    return spline


def _demons(fixed: Any, moving: Any, affine: Any) -> Any:
    """Diffeomorphic demons (Vercauteren et al. 2009) from coarse to fine."""
    there, field = sitk.Resample(moving, fixed, affine, sitk.sitkLinear, 0.0), None
    for factor in DEMONS_SHRUNK:
        ours, theirs = (
            sitk.Shrink(sitk.SmoothingRecursiveGaussian(x, factor / 2 + 0.5), [factor] * 2) for x in (fixed, there)
        )
        method = sitk.DiffeomorphicDemonsRegistrationFilter()
        method.SetNumberOfIterations(DEMONS_STEPS)
        method.SetSmoothDisplacementField(True)
        method.SetStandardDeviations(DEMONS_SMOOTH_PX)
        field = method.Execute(ours, theirs, *([] if field is None else [sitk.Resample(field, ours)]))
    return sitk.DisplacementFieldTransform(sitk.Resample(field, fixed))
