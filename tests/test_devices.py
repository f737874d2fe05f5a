import pytest
import torch

import chromogen.compute.devices as module
from chromogen.compute.devices import can_bf16, choose_device, choose_precision


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"one this machine has \(cpu\), got cuda"):
        choose_device("cuda")
    with pytest.raises(ValueError, match="did you mean cpu"):
        choose_device("cpuu")
    with pytest.raises(ValueError, match="got cpu:x"):
        choose_device("cpu:x")


def test_a_gpu_number_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto") == torch.device("cuda")
    with pytest.raises(ValueError, match="below cuda:1, got cuda:3"):
        choose_device("cuda:3")


@pytest.mark.parametrize(
    ("amx", "avx512", "chosen"), [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")]
)
def test_auto_precision_follows_the_processor(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert choose_precision("auto", torch.device("cpu")) == chosen
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"


@pytest.mark.parametrize("capabilities", [True, False])
def test_without_torchs_private_probes_the_answer_is_the_same(
    monkeypatch: pytest.MonkeyPatch, capabilities: bool
) -> None:
    cpu = torch.device("cpu")
    able, chosen = can_bf16(cpu), choose_precision("auto", cpu)
    for probe in module.PROBES.values():
        monkeypatch.delattr(torch.cpu, probe, raising=False)
    monkeypatch.setattr(module, "operator", lambda _name: None)
    if not capabilities:  # torch 2.6
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    elif not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this torch has no public word for capabilities")
    assert can_bf16(cpu) == able
    assert choose_precision("auto", cpu) == (chosen if capabilities else "fp32")


@pytest.mark.parametrize(
    ("known", "able", "chosen"),
    [
        ({"avx2": True, **dict.fromkeys(module.AVX_512, False)}, False, "fp32"),
        (dict.fromkeys(module.AVX_512, True), True, "fp32"),
        ({**dict.fromkeys(module.AVX_512, True), "avx512_bf16": True}, True, "bf16"),
        ({**dict.fromkeys(module.AVX_512, True), "amx_tile": True}, True, "bf16"),
        ({"architecture": "aarch64", "bf16": True}, True, "fp32"),
        ({"architecture": "aarch64", "bf16": False}, False, "fp32"),
    ],
)
def test_of_other_processors_torchs_public_names_tell(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, object], able: bool, chosen: str
) -> None:
    for probe in module.PROBES.values():
        monkeypatch.delattr(torch.cpu, probe, raising=False)
    monkeypatch.setattr(module, "operator", lambda _name: None)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert can_bf16(torch.device("cpu")) == able
    assert choose_precision("auto", torch.device("cpu")) == chosen


def test_bf16_is_refused_where_it_would_crawl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "can_bf16", lambda device: False)
    with pytest.raises(ValueError, match="fp32 or auto on this processor, which has no instructions for bf16"):
        choose_precision("bf16", torch.device("cpu"))
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"


def test_auto_precision_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert choose_precision("auto", torch.device("cuda")) == "bf16"
    assert choose_precision("auto", torch.device("mps")) == "fp32"


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="auto, fp32, bf16, got 'fp16'"):
        choose_precision("fp16", torch.device("cpu"))
