"""What a command may write: nothing that it reads, nothing twice, and over no file but its own earlier output."""

import dataclasses
import os
import re
import stat

from safa.runtime.errors import UserError, shortened

ENDS = 2**14  # bytes at either end of a file, where its kind shows
ANYTHING = re.compile(b"")
PICTURE = re.compile(rb"\x89PNG.*Matplotlib", re.DOTALL)  # that we drew: other programs' do not say so


@dataclasses.dataclass(frozen=True)
class Output:
    """A file that a command writes."""

    flag: str  # that names it, for messages
    path: str | None  # None where none is asked for
    earlier: re.Pattern  # matches the file's beginning (followed by its end) if an earlier command of the same kind wrote it


def check_outputs(outputs, inputs=()):
    """Refuse outputs by which something would be lost, or which cannot be written.

    Args:
        outputs: list of all Output of a command.
        inputs: paths of the files that it reads.

    Raises:
        UserError: an output is an input, is named twice, lies in no existing folder, or would replace something else than an
            earlier output of the same kind.
    """
    flags, read = {}, {os.stat(path)[1:3] for path in set(inputs) if os.path.exists(path)}  # inode and device
    for output in outputs:
        if output.path is None:
            continue
        named, folder = f"{output.flag} {shortened(output.path)}", os.path.dirname(output.path) or "."
        if not output.path or os.path.isdir(output.path) or not os.path.isdir(folder):
            raise UserError(f"{named}: is a folder, or its folder does not exist; name a file in an existing folder")
        place = os.path.join(os.path.realpath(folder), os.path.basename(output.path))
        if place in flags:
            raise UserError(f"{named}: {flags[place]} writes this file too; name another one")
        flags[place] = output.flag
        if not os.path.lexists(output.path):
            continue
        status = os.lstat(output.path)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{named}: a link, pipe or device in the place of a file; name a file")
        if status[1:3] in read:
            raise UserError(f"{named}: this command reads it; name another file")
        if status.st_size and not output.earlier.match(_ends(output.path)):
            raise UserError(f"{named}: a file of another kind, which would be lost; move it away, or name another one")
    for place, flag in flags.items():
        if not os.access(os.path.dirname(place), os.W_OK):
            raise UserError(f"{flag} {shortened(place)}: its folder may not be written; check the permissions, or name another")


def _ends(path):
    """The first and last bytes of a file."""
    with open(path, "rb") as file:
        first = file.read(ENDS)
        file.seek(max(file.tell(), os.path.getsize(path) - ENDS))
        return first + file.read(ENDS)
