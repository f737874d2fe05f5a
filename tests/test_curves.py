import numpy as np
import pytest

from chromogen.image import Image
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import Recipe, content_term, style_term
from chromogen.style.stylize import stylized, total_curve, weighted_curves


def test_weighted_curves_add_up_to_the_total(content: Image, style: Image, encoder: Encoder) -> None:
    recipe = Recipe((content_term(weight=0.5), style_term(2.0, ("relu1_1", "relu2_1"))), steps=(3,))
    trace = stylized(content, style, recipe, encoder=encoder).trace
    total, *terms = weighted_curves(trace, recipe).values()
    assert total == total_curve(trace)
    assert len(total) == 3
    assert np.sum(terms, axis=0) == pytest.approx(total, rel=1e-5)
