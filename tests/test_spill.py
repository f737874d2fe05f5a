"""What is stored comes back, and leaves nothing behind."""

import pytest
import torch

from chromogen.compute.memory import InMemory, Spill, Store


@pytest.mark.parametrize("kind", [InMemory, Spill])
def test_what_is_stored_comes_back(kind: type[Store]) -> None:
    store = kind()
    store.keep(3, {"content": torch.ones(2, 3)})
    store.keep(3, {"hematoxylin": torch.zeros(1, dtype=torch.bfloat16)})
    assert set(store.of(3)) == {"content", "hematoxylin"}
    assert store.of(2) == {}


def test_what_is_spilled_comes_back_and_leaves_no_trace() -> None:
    spill = Spill()
    assert spill.of(3) == {}
    spill.keep(3, {"content": torch.ones(2, 3)})
    spill.keep(3, {"hematoxylin": torch.zeros(1, dtype=torch.bfloat16)})
    spill.keep(4, {"content": torch.zeros(1)})
    assert set(spill.of(3)) == {"content", "hematoxylin"}
    assert torch.equal(spill.of(3)["content"], torch.ones(2, 3))
    assert spill.of(3)["hematoxylin"].dtype == torch.bfloat16
    spill.keep(4, {"style": torch.zeros(1)})
    folder = spill._folder
    assert len(list(folder.iterdir())) == 2
    del spill
    assert not folder.exists()


def test_what_is_never_spilled_makes_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chromogen.compute.memory.scratch_folder", lambda: pytest.fail("made a folder"))
    assert Spill().of(0) == {}
