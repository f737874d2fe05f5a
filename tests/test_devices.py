import pytest
import torch

from chromogen.devices import choose_device


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
