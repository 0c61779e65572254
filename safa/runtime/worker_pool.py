"""Worker processes that end with the process that started them, even when that one is killed."""

import concurrent.futures
import concurrent.futures.process
import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import warnings

import cv2

from safa.runtime.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES = 2**28  # of freed memory that a worker keeps


def available_cores():
    """Number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def worker_map(workers, chunksize=1, remedy="try again with fewer --workers"):
    """A `map(function, items)` over processes: results come in order; the first exception ends it and is raised.

    Args:
        workers: number of processes; 1 runs in this process.
        chunksize: items handed to a process at a time.
        remedy: what the user can do if one is killed.

    Raises:
        UserError: a process was killed.
    """
    if workers == 1:
        yield map
        return
    # Spawned, not forked: threads do not survive a fork, and it is the same on every system.
    pool = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)

    def parallel_map(function, items):
        # The pool starts its processes now. They inherit the mask, so they never see Ctrl-C, not even while they import.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return pool.map(function, items, chunksize=chunksize)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    try:
        yield parallel_map
    except KeyboardInterrupt:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # at a second one, workers would end in tracebacks
        pool.shutdown(cancel_futures=True)
        signal.signal(signal.SIGINT, before)
        raise
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError(f"a worker process was killed, perhaps for want of memory; {remedy}") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker():
    warnings.simplefilter("ignore")  # as `errors.reported`
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)  # the processes use every core already
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)
    # glibc would give each image's memory back and ask for it again: a sixth of the time of a check.
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


def _end_with_parent():
    """A parent that is killed cannot say so, and its workers would wait for it for ever."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
