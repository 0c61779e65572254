"""Runs scripts in forks of a process that has imported their libraries: each as in a process of its own, but at once.

Tests of a script's start, or of what it sets before it imports a library, start a process of their own instead
(`conftest.start_anew`).
"""

import concurrent.futures
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time

ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}  # of `backend`


class WarmProcess:
    """A process that waits for scripts to run. Forks of it inherit its imports, and share nothing else."""

    def __init__(self, root):
        self._root = root
        self._process = None

    def run(self, script, arguments, cwd):
        """Run a script of the project's top level, or the package `toy_town`: exit code, stdout and stderr."""
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            pid = self._fork(script, arguments, cwd, os.environ, stdout.fileno(), stderr.fileno())
            code = self.ask(wait=pid)
            for stream in stdout, stderr:
                stream.seek(0)
            return code, stdout.read(), stderr.read()

    def start(self, script, arguments, cwd, environment=None):
        """Start a script: a `Started`."""
        pipes = [os.pipe() for _ in range(2)]
        pid = self._fork(script, arguments, cwd, environment or os.environ, *(write for _, write in pipes))
        for _, write in pipes:
            os.close(write)
        return Started(self, pid, *(open(read) for read, _ in pipes))

    def _fork(self, script, arguments, cwd, environment, *descriptors):
        streams = [f"/proc/{os.getpid()}/fd/{descriptor}" for descriptor in descriptors]
        given = {"script": script, "arguments": arguments, "cwd": str(cwd), "environment": dict(environment)}
        return self.ask(fork=given | {"streams": streams})

    def ask(self, **request):
        """The process's answer to a request of `serve`."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, os.path.abspath(__file__), self._root],
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | ENVIRONMENT,
            )
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


class Started:
    """A script that runs: what tests use of `subprocess.Popen`."""

    def __init__(self, warm, pid, stdout, stderr):
        self._warm, self.pid, self.stdout, self.stderr, self.returncode = warm, pid, stdout, stderr, None

    def poll(self):
        if self.returncode is None:
            self.returncode = self._warm.ask(poll=self.pid)
        return self.returncode

    def wait(self, timeout=600):
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout=600):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            texts = [pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            return tuple(text.result() for text in texts)

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def serve(root):
    """Import the libraries that scripts import, then answer each line of standard input with a line.

    {"fork": what to run} is answered with a process id, {"wait": that} with its exit code, {"poll": that} with
    its exit code or null.
    """
    import cv2  # noqa: F401
    import keras  # noqa: F401
    import scipy.io  # noqa: F401
    import scipy.spatial  # noqa: F401
    import scipy.stats  # noqa: F401
    import tensorflow  # noqa: F401

    for line in sys.stdin:
        ((kind, given),) = json.loads(line).items()
        if kind == "fork":
            # Opened before the answer: then the other process may close its ends.
            streams = [os.open(path, os.O_WRONLY | os.O_APPEND) for path in given.pop("streams")]
            answer = os.fork()
            if answer == 0:
                _become(root, streams, **given)
            for stream in streams:
                os.close(stream)
        else:
            pid, status = os.waitpid(given, os.WNOHANG if kind == "poll" else 0)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)


def _become(root, streams, script, arguments, cwd, environment):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
        os.close(stream)
    sys.argv = [os.path.join(root, script), *arguments]
    sys.path[0] = root
    from safa import parts

    parts.BACKBONES["tiny"] = lambda *given: importlib.import_module("tests.programs.other_parts").small(
        *given
    )  # conftest.TINY
    code = 0
    try:
        if script.endswith(".py"):
            runpy.run_path(sys.argv[0], run_name="__main__")
        else:
            runpy.run_module(script, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
