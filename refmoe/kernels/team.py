"""team - threads that help with a job if they are there in time.

A job is a number of independent items, each done by one call of a compiled function (jit.item_kernel) on a block of
int64 operands. The caller publishes it, works on it, and is done when no item is left and no helper is inside; it never
waits for a helper that has not come. So a machine with other work to do costs the helper's time, not a stalled barrier.
Items are disjoint outputs: who does which, and in what order, decides speed and never a bit.

Every thread has a slot and a share of the items, which it takes front to back; then it helps with the other shares.
Helpers are Python threads inside a compiled loop without the interpreter lock; after a while without work they sleep.

Protocol (all on one array of int64, sequentially consistent): the caller sets the operands, then raises EPOCH; a helper
that sees a new epoch raises INSIDE, looks again that the epoch is not CLOSED, works, lowers INSIDE; the caller sets
CLOSED to its epoch and waits for INSIDE to be 0. Either the helper sees CLOSED or the caller sees the helper.
"""

import os
import threading

import numpy as np

from refmoe.errors import UsageError
from refmoe.jit import kernel, max_threads
from refmoe.numerics.vec import address, atomic_add, atomic_load, atomic_store, call_item, pause

LINE = 64  # bytes: one field per cache line
EPOCH, CLOSED, INSIDE, OWNED, FUNCTION, BLOCK, ITEMS, SHARES, TAKEN = (n * LINE for n in range(9))
PATIENCE = 1 << 17  # looks without a new job before a helper sleeps: some milliseconds
LIMIT = max(64, max_threads())  # shares of a job
_control = np.zeros((TAKEN + LINE * LIMIT) // 8, np.int64)
_awake: list[threading.Event] = []


@kernel
def _work(control, function, block, items, shares, slot):
    """Items of share `slot`, then what is left of the others."""
    for other in range(shares):
        share = (slot + other) % shares
        first, end = items * share // shares, items * (share + 1) // shares
        item = first + atomic_add(control + TAKEN + share * LINE, 1)
        while item < end:
            call_item(function, block, item, slot)
            item = first + atomic_add(control + TAKEN + share * LINE, 1)


@kernel
def _serve(array, slot, patience):
    """Help with jobs until none came for `patience` looks."""
    control = address(array)
    seen, idle = np.int64(0), 0
    while idle < patience:
        epoch = atomic_load(control + EPOCH)
        if epoch == seen:
            idle += 1
            pause()
            continue
        seen, idle = epoch, 0
        atomic_add(control + INSIDE, 1)
        shares = atomic_load(control + SHARES)
        if atomic_load(control + EPOCH) == epoch and atomic_load(control + CLOSED) < epoch and slot < shares:
            _work(control, atomic_load(control + FUNCTION), atomic_load(control + BLOCK),
                  atomic_load(control + ITEMS), shares, slot)
        atomic_add(control + INSIDE, -1)


@kernel
def _share_job(control, function, block, items, shares):
    """Publish, work, close, wait for the helpers that are inside."""
    for share in range(shares):
        atomic_store(control + TAKEN + share * LINE, np.int64(0))
    atomic_store(control + FUNCTION, function)
    atomic_store(control + BLOCK, block)
    atomic_store(control + ITEMS, items)
    atomic_store(control + SHARES, shares)
    epoch = atomic_add(control + EPOCH, 1) + 1
    _work(control, function, block, items, shares, np.int64(0))
    atomic_store(control + CLOSED, epoch)
    while atomic_load(control + INSIDE) != 0:
        pause()


@kernel
def run(array, function, block, items, shares):
    """Do all items of a job; with shares = 1, or while another thread has the team, on the calling thread alone."""
    run_at(array, function, address(block), items, shares)


@kernel
def run_at(array, function, operands, items, shares):
    """`run` for operands at an address."""
    control = address(array)
    if shares > 1 and items > 1 and atomic_add(control + OWNED, 1) == 0:
        _share_job(control, function, operands, items, shares)
        atomic_add(control + OWNED, -1)
        return
    if shares > 1 and items > 1:
        atomic_add(control + OWNED, -1)
    for item in range(items):
        call_item(function, operands, item, np.int64(0))


def _after_fork() -> None:
    """A child process has none of the parent's threads."""
    _control.fill(0)
    _awake.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def gather(shares: int) -> np.ndarray:
    """Have shares - 1 helpers awake, or on their way; returns the array that `run` takes first.

    UsageError for more shares than LIMIT.
    """
    if shares > LIMIT:
        raise UsageError(f"threads: expected at most {LIMIT}, found {shares}")
    while len(_awake) < shares - 1:
        slot, event = len(_awake) + 1, threading.Event()
        _serve(_control, slot, 0)  # compiled here, not in the thread
        _awake.append(event)
        threading.Thread(target=_help, args=(slot, event), name=f"refmoe-{slot}", daemon=True).start()
    for event in _awake[:shares - 1]:
        if not event.is_set():
            event.set()
    return _control


def _help(slot: int, event: threading.Event) -> None:
    while True:
        event.wait()
        event.clear()
        _serve(_control, slot, PATIENCE)
