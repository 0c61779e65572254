"""Runs scripts in forks of a server that has imported their libraries: each as in a process of its own, but at once.

Tests of a script's start, or of what it sets before it imports a library, start a process of their own instead.
"""

import concurrent.futures
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys

import scipy.io

CONTEXT = multiprocessing.get_context("forkserver")
LIBRARIES = "cv2 keras tensorflow scipy.io scipy.spatial scipy.stats rasterio pyproj tests.programs.other_parts"
CONTEXT.set_forkserver_preload(LIBRARIES.split())


class ForkedScript(CONTEXT.Process):
    """A script that runs: what tests use of `subprocess.Popen`. Arguments as of `become`."""

    def __init__(self, path, arguments, cwd, environment, before=None):
        (out, theirs_out), (err, theirs_err) = CONTEXT.Pipe(duplex=False), CONTEXT.Pipe(duplex=False)
        arguments = path, arguments, str(cwd), dict(environment), before, theirs_out, theirs_err
        super().__init__(target=become, args=arguments)
        self.start()
        self.stdout, self.stderr = (open(os.dup(end.fileno())) for end in (out, err))
        for end in out, err, theirs_out, theirs_err:
            end.close()

    returncode = CONTEXT.Process.exitcode

    def wait(self, timeout=600):
        self.join(timeout)
        if self.is_alive():
            self.kill()
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.returncode

    def communicate(self, timeout=600):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            texts = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            self.wait(timeout)
            return tuple(text.result() for text in texts)

    def send_signal(self, number):
        if self.is_alive():
            os.kill(self.pid, number)


def become(path, arguments, cwd, environment, before, stdout, stderr):
    """Run a script in this process, a fork: a file that ends in .py, or the name of a package.

    `before`, a function of a module, is called first.
    """
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, end in ((1, stdout), (2, stderr)):
        os.dup2(end.fileno(), number)
        end.close()
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False, errors="backslashreplace")
    sys.argv = [path, *arguments]
    begin_tests()
    if before is not None:
        before()
    if path.endswith(".py"):
        runpy.run_path(path, run_name="__main__")
    else:
        runpy.run_module(path, run_name="__main__", alter_sys=True)


def begin_tests():
    """What differs from a user's process: small backbones (conftest.TINY, conftest.SHALLOW), and how MATLAB files are read."""
    from safa import parts
    from safa.datasets import cvact
    from tests.programs import other_parts

    cvact.read_mat = read_mat_here
    parts.BACKBONES |= {"tiny": other_parts.small, "few_blocks": other_parts.few_blocks}


def read_mat_here(file, names):
    """As `runtime.mat_file.read_mat` of a file that crashes no reader, without the process that takes half a second."""
    return scipy.io.loadmat(file, variable_names=names)


def no_file_grows_beyond(size):
    """Writing in this process fails in the middle of longer files, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


class NoPictures:
    """An importer that refuses libraries of pictures, also those that this process has imported."""

    names = "matplotlib", "PIL", "jinja2"

    def find_spec(self, name, *_):
        assert name.partition(".")[0] not in self.names, f"{name} is imported"

    @classmethod
    def begin(cls):
        for name in [name for name in sys.modules if name.partition(".")[0] in cls.names]:
            del sys.modules[name]
        sys.meta_path.insert(0, cls())


def die_after_batches(number):
    """This process kills itself after so many batches of descriptors, of which each is noted as finished at once."""
    from safa.retrieval import resumable_rows
    from safa.retrieval.descriptors import DescriptorExtractor

    batch, left = DescriptorExtractor.batch, iter(range(number))

    def batch_or_death(*arguments):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(*arguments)

    DescriptorExtractor.batch, resumable_rows.KEEP_SECONDS = batch_or_death, 0.0


def with_corruptions():
    """tests/programs/corrupt_tta.py stands in for the package, in this process and in its workers."""
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "programs"))
    # Importing the script too takes workers three times as long.
    prepared, unused = multiprocessing.spawn.get_preparation_data, "init_main_from_path"
    multiprocessing.spawn.get_preparation_data = lambda name: {k: v for k, v in prepared(name).items() if k != unused}


def two_corruptions(batches=None):
    """The same, and a grid of two corruptions in two severities, which kills itself after so many batches."""
    with_corruptions()
    if batches is not None:
        die_after_batches(batches)
    from safa.datasets import corruptions
    from safa.report import corruption_tables

    corruptions.CORRUPTIONS = "contrast", "fog"
    corruptions.SEVERITIES = corruption_tables.SEVERITIES = 1, 2
