"""Waits for work in a queue of the page's server."""

import time

from chromogen.app.view.work_queue import UNDER_WAY, Queued, W, WorkQueue


def wait_for(works: WorkQueue[W], work_id: str, timeout_s: float) -> Queued[W]:
    """The work when it has ended, or after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while works.find(work_id).state in UNDER_WAY and time.monotonic() < until:
        time.sleep(0.05)
    return works.find(work_id)
