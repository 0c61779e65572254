"""Answers of a query as they come, kept beside its first output until all are written: a stopped query goes on from them."""

import contextlib
import dataclasses
import math
import os
import shutil

import msgspec
import numpy as np

from safa.localization.places import Answer
from safa.runtime.errors import UserError, shortened
from safa.runtime.files import LOCK, append, locked, naming, ordinary

ENDING, LINES = ".progress", "answers.jsonl"
_encoder = msgspec.json.Encoder(enc_hook=lambda array: array.tolist())
_decoder = msgspec.json.Decoder(tuple[int, tuple[int, int], Answer], dec_hook=lambda kind, values: np.array(values))


class Journal:
    """A file of answers, or none, each with its panorama's number; a new or changed file of a panorama has none.

    Attributes:
        answers: {number of a panorama: its Answer}.
    """

    def __init__(self, path, panoramas):
        self.answers, self._path, self._panoramas = {}, path, panoramas

    def read(self, file):
        """Take the answers that a stopped query left in the file from here on, and cut off what it left half-written."""
        end = file.tell()
        for line in file:
            try:
                number, stamp, answer = _decoder.decode(line)
                panorama = self._panoramas[number]
            except (msgspec.MsgspecError, IndexError):
                break
            end += len(line)
            if stamp == _stamp(panorama):
                margin = math.inf if answer.margin is None and answer.problem is None else answer.margin
                self.answers[number] = dataclasses.replace(answer, panorama=panorama, margin=margin)
        file.truncate(end)

    def add(self, number, answer):
        """Keep an answer, safe from the end of this process."""
        self.answers[number] = answer
        if self._path is not None:
            own = number, _stamp(answer.panorama), dataclasses.replace(answer, panorama=None)
            append(self._path, _encoder.encode(own) + b"\n")


@contextlib.contextmanager
def kept_answers(output, identity, panoramas):
    """A Journal of a query's answers in the folder `output`.progress, which is removed at the end of a context without error.

    Args:
        output: a file that the query writes, or None: nothing is kept.
        identity: digest of all that answers depend on but the panoramas' files.
        panoramas: list of Panorama.

    Raises:
        UserError: the folder holds something else, answers of another query, or another process writes there.
    """
    if output is None:
        yield Journal(None, panoramas)
        return
    folder, header = output + ENDING, msgspec.json.encode({"query": identity}) + b"\n"
    if os.path.lexists(folder) and (not os.path.isdir(folder) or set(os.listdir(folder)) - {LINES, LOCK}):
        raise UserError(f"{shortened(folder)}: holds something else than a query's answers; move it away")
    path = os.path.join(folder, LINES)
    journal = Journal(path, panoramas)
    with locked(folder, f"{shortened(folder)}: another query is writing there; wait for it"):
        with naming(path), open(path, "a+b", opener=ordinary) as file:
            file.seek(0)
            first = file.readline()
            if first.endswith(b"\n") and first != header:
                raise UserError(
                    f"{shortened(folder)}: holds answers of a query with other panoramas or settings, or another or an updated "
                    "index; run that command again, or delete this folder"
                )
            if first != header:
                file.truncate(0)
                file.write(header)
            journal.read(file)
        yield journal
        shutil.rmtree(folder)


def _stamp(panorama):
    """Size and time of the last change of a panorama's file."""
    try:
        status = os.stat(panorama.path)
    except (OSError, ValueError):
        return 0, 0
    return status.st_size, status.st_mtime_ns
