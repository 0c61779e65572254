"""Runs scripts in forks of a process that has imported their libraries: each as in a process of its own, but at once.

Tests of a script's start, its signals or its death start a process of their own instead (`conftest.start`).
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile

ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}  # of `backend`


class WarmProcess:
    """A process that waits for scripts to run. Forks of it inherit its imports, and share nothing else."""

    def __init__(self, root):
        self._root = root
        self._process = None

    def run(self, script, arguments, cwd):
        """Run a script of the project's top level, or the package `toy_town`: exit code, stdout and stderr."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, os.path.abspath(__file__), self._root],
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | ENVIRONMENT,
            )
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            request = {
                "script": script,
                "arguments": arguments,
                "cwd": str(cwd),
                "environment": dict(os.environ),
                "streams": [f"/proc/{os.getpid()}/fd/{stream.fileno()}" for stream in (stdout, stderr)],
            }
            print(json.dumps(request), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            for stream in stdout, stderr:
                stream.seek(0)
            return code, stdout.read(), stderr.read()


def serve(root):
    """Import the libraries that scripts import, then run one script for each line of standard input."""
    import keras  # noqa: F401
    import scipy.io  # noqa: F401
    import tensorflow  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(root, **request)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(root, script, arguments, cwd, environment, streams):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_RDWR), number)
    sys.argv = [os.path.join(root, script), *arguments]
    sys.path[0] = root
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
