import pytest

from chromogen.style.objective import LAYERS, check_layers, deepest, smallest_side_px


def test_every_activation_of_vgg19_has_its_name() -> None:
    assert len(LAYERS) == 17
    assert LAYERS[:4] == ("image", "relu1_1", "relu1_2", "relu2_1")
    assert LAYERS[-1] == "relu5_4"


def test_the_reports_fourth_convolution_is_relu2_2() -> None:
    assert LAYERS[4] == "relu2_2"


def test_an_unknown_layer_gets_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"got 'conv4_2'; did you mean relu4_2\?"):
        check_layers(["relu1_1", "conv4_2"])


@pytest.mark.parametrize(("layers", "side"), [({"image"}, 1), ({"relu1_2"}, 1), ({"relu2_1", "relu5_4"}, 16)])
def test_smallest_side(layers: set[str], side: int) -> None:
    assert smallest_side_px(layers) == side


def test_deepest_follows_the_network_not_the_alphabet() -> None:
    assert deepest(["relu1_1", "image"]) == "relu1_1"
