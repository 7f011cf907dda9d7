"""The team: every item once whoever comes, alone or oversubscribed, from several threads, after a fork."""

import os
import sys
import threading
import time

import numpy as np
import pytest

from refmoe import jit

if not jit.ENABLED:
    pytest.skip("the JIT is off: there are no helper threads", allow_module_level=True)

from refmoe.jit import item_kernel
from refmoe.kernels import team
from refmoe.numerics.vec import atomic_add, view64

MOST = jit.max_threads()


@item_kernel
def _count(block, item, slot):
    """Add 1 to the counter of the item and to that of the slot; some work, so that helpers get their turn."""
    b = view64(block, 3)
    state = item
    for _ in range(b[2]):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
    atomic_add(b[0] + item * 8, 1 if state >= 0 else 0)
    atomic_add(b[1] + slot * 8, 1)


def job(items, shares, work=1000):
    """Run one job; how often each item was done, and how many each slot did."""
    done, by_slot = np.zeros(max(items, 1), np.int64), np.zeros(MOST, np.int64)
    block = np.array([done.ctypes.data, by_slot.ctypes.data, work], np.int64)
    team.run(team.gather(shares), _count(), block, items, shares)
    return done[:items], by_slot


@pytest.mark.parametrize("shares", sorted({1, 2, MOST} & set(range(1, MOST + 1))))
@pytest.mark.parametrize("items", [0, 1, 2, 3, 17, 500])
def test_every_item_once(items, shares):
    for _ in range(20):
        done, by_slot = job(items, shares)
        assert (done == 1).all()
        assert by_slot.sum() == items
        assert not by_slot[shares:].any()


@pytest.mark.skipif(MOST < 2, reason="one thread on this machine")
def test_helpers_do_help():
    """Long enough jobs, again and again: sooner or later a helper takes items, also after it has slept."""
    for rest in (0.0, 0.3):
        time.sleep(rest)
        assert any(job(64, 2, 100_000)[1][1] for _ in range(100))


@pytest.mark.skipif(MOST < 2, reason="one thread on this machine")
def test_callers_in_several_threads():
    """Only one of them has the team; the others work alone; nothing is lost."""
    wrong = []

    def caller():
        for _ in range(200):
            done, _ = job(33, 2, 100)
            if not (done == 1).all():
                wrong.append(done)

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_works_on():
    job(10, MOST)
    child = os.fork()
    if child == 0:
        done, _ = job(50, MOST)
        os._exit(0 if (done == 1).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
