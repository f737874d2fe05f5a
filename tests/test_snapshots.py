"""The API and the command line are what they were, or a change of them is seen, and meant."""

from difflib import unified_diff

import pytest

from surface import FOLDER, SNAPSHOTS


@pytest.mark.parametrize("file", SNAPSHOTS)
def test_what_others_build_on_has_not_changed_unseen(file: str) -> None:
    known, now = (FOLDER / file).read_text(encoding="utf-8"), SNAPSHOTS[file]()
    changes = "\n".join(unified_diff(known.splitlines(), now.splitlines(), "as committed", "now", lineterm=""))
    assert not changes, f"{file} has changed. If that is meant: make snapshots, and commit.\n{changes}"
