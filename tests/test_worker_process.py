"""Work in a process apart: what it gives, and what happens when it dies, hangs, or its server does."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from chromogen.app.view.processes import WorkerProcess
from test_work_queue import until


@pytest.fixture
def apart() -> Iterator[WorkerProcess]:
    made = WorkerProcess(timeout_s=60)
    yield made
    made.close()


def test_it_lasts_and_outlives_what_kills_it(apart: WorkerProcess) -> None:
    pid = apart.call(os.getpid)
    assert pid != os.getpid()
    assert apart.call(os.getpid) == pid, "the same, with all it has in memory"
    with pytest.raises(ValueError, match="math domain|nonnegative"):
        apart.call(__import__("math").sqrt, -1)
    assert apart.call(os.getpid) == pid
    with pytest.raises(ValueError, match="process died"):
        apart.call(os._exit, 3)
    assert apart.call(os.getpid) not in (pid, os.getpid())


def test_what_takes_too_long_is_ended(apart: WorkerProcess) -> None:
    pid = apart.call(os.getpid)
    apart._timeout_s = 0.3
    with pytest.raises(ValueError, match="took too long"):
        apart.call(time.sleep, 600)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_it_ends_with_a_server_that_is_killed() -> None:
    code = "import os, sys; from chromogen.app.view.processes import WorkerProcess; a = WorkerProcess()\n"
    code += "if __name__ == '__main__': print(a.call(os.getpid), flush=True); sys.stdin.read()"
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout is not None
    pid = int(server.stdout.readline())
    server.kill()
    server.communicate()
    until(lambda: not psutil.pid_exists(pid))
