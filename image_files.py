"""Image files that are either read whole or refused, and either written whole or not at all."""
import os
import platform
import shutil
import struct
import zlib

import cv2
import numpy as np
import simplejpeg

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
# JPEG markers that open a frame and so carry the image's size (ITU T.81, table B.1).
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
HEADER_BYTES = 4096  # that hold an image's size, but for long headers
PARTIAL = ".partial"  # ending of files that are still being written


class ImageError(Exception):
    """An image file that is missing, broken or of the wrong size; the text names the file and what is wrong with it."""


def read_image(path):
    """Decode an image file.

    Args:
        path: JPEG or PNG file (any format that OpenCV reads is decoded; only these two are checked for damage).

    Returns:
        (height, width, 3) uint8, BGR, the pixels as they are stored: north is up whatever a camera's tag says.

    Raises:
        ImageError: the file is missing, empty, truncated, damaged so that a part of it cannot be decoded, or not an
            image. OpenCV left to itself fills the missing part of a JPEG with grey and says nothing.
    """
    return decode_image(path, read_bytes(path))


def read_bytes(path):
    """A file's content; an `ImageError` says why there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ImageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def decode_image(path, content):
    """Decode an image file's content; arguments, result and errors as those of `read_image`."""
    _refuse_fragment(path, content)
    try:
        # Four colours are left to OpenCV to convert.
        if content.startswith(JPEG_START) and simplejpeg.decode_jpeg_header(content)[2] not in ("CMYK", "YCCK"):
            # OpenCV's pixels, from the same library; but every warning of the decoder is an error.
            return simplejpeg.decode_jpeg(content, "BGR", strict=True)
    except ValueError as error:
        raise ImageError(f"{path}: damaged; only a part of it can be decoded ({error})") from None
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise ImageError(f"{path}: not an image that can be decoded")
    return image


def image_size(path):
    """Height and width in pixels from the header of a JPEG or PNG file that is also whole at its end.

    Reads a few kilobytes, so that tens of thousands of files are checked before a long run begins.

    Returns:
        (height, width).

    Raises:
        ImageError: as for `read_image`, as far as the header and the end of the file tell.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(HEADER_BYTES)
            tail = content
            length = os.fstat(file.fileno()).st_size
            if length > 2 * HEADER_BYTES:
                file.seek(length - HEADER_BYTES)
                tail = file.read()
            elif length > HEADER_BYTES:
                tail = content = content + file.read()
            size = _png_size(content) if content.startswith(PNG_START) else _jpeg_size(content)
            ending = JPEG_END if content.startswith(JPEG_START) else PNG_END
            if size is None or tail.rfind(ending) < 0:  # a long header or padding, perhaps: look at all of it
                file.seek(0)
                content = file.read()
                _refuse_fragment(path, content)
                size = _jpeg_size(content)
            elif tail is content:
                _refuse_fragment(path, content)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from None
    return size if size is not None else read_image(path).shape[:2]


def _refuse_fragment(path, content):
    if not content:
        raise ImageError(f"{path}: empty file")
    if content.startswith(JPEG_START):
        # Entropy-coded data never holds FF D9, so an end marker after the last scan's start means a whole file.
        whole = content.rfind(JPEG_END) > content.rfind(JPEG_SCAN) >= 0
    elif content.startswith(PNG_START):
        whole = content.rfind(PNG_END) >= 0
        if whole:
            _refuse_damaged_png(path, content)
    else:
        whole = True  # another format: left to the decoder
    if not whole:
        raise ImageError(f"{path}: truncated after {len(content):,} bytes")


def _refuse_damaged_png(path, content):
    """Compare the checksums of all chunks. OpenCV only prints what libpng says of them."""
    position, name = len(PNG_START), b""
    while name != b"IEND" and position + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if end + 4 > len(content) or zlib.crc32(memoryview(content)[position + 4:end]) != struct.unpack_from(
                ">I", content, end)[0]:
            raise ImageError(f"{path}: damaged; the checksum of its part {name.decode('latin1')!r} at byte "
                             f"{position:,} is wrong")
        position = end + 4
    if name != b"IEND":
        raise ImageError(f"{path}: truncated after {len(content):,} bytes")


def _png_size(content):
    if len(content) < 24:
        return None
    width, height = struct.unpack(">II", content[16:24])
    return height, width


def _jpeg_size(content):
    position = 2
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in JPEG_FRAMES:
            return struct.unpack(">HH", content[position + 5:position + 9])
        else:
            position += 2 + struct.unpack(">H", content[position + 2:position + 4])[0]
    return None


def write_image(path, image, options=()):
    """Write an image so that `path` is only ever absent or whole: encode, write beside it, rename.

    Args:
        path: the file; its extension chooses the format. Its folder must exist.
        image: (height, width, 3) uint8, BGR.
        options: OpenCV's encoder options, such as `(cv2.IMWRITE_PNG_COMPRESSION, 1)`.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    encoded, content = cv2.imencode(os.path.splitext(path)[1], image, list(options))
    if not encoded:
        raise ValueError(f"{path}: cannot be encoded")
    write_whole(path, content.data, durable=False)


def write_whole(path, content, durable=True):
    """Write bytes to `path` under a temporary name, then rename: readers and a killed run see all of it or none.

    The temporary name holds machine and process, so that several runs may write the same folder. `durable` waits for
    the disk, so that not even a power cut leaves an empty file; tens of thousands of images are checked instead.
    """
    partial = partial_path(path)
    try:
        with open(partial, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        if os.path.exists(partial):
            os.unlink(partial)
        if isinstance(error, OSError):
            error.filename = path  # a write that fails for lack of space does not name its file
        raise


def partial_path(path):
    """Where this process makes a file or folder that gets the name `path` when it is whole."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{_writer()}{PARTIAL}")


def remove_abandoned(folder):
    """Remove what killed runs on this machine left half-written in a folder; files of running ones stay."""
    machine = _writer().rpartition("-")[0]
    for entry in os.scandir(folder):
        owner, _, process = entry.name.removesuffix(PARTIAL).rpartition(".")[2].rpartition("-")
        if entry.name.endswith(PARTIAL) and owner == machine and process.isdecimal() and not _runs(int(process)):
            shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)


def _writer():
    return f"{platform.node().partition('.')[0]}-{os.getpid()}"


def _runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:  # one that has ended keeps its number until its parent asks for it: in containers often for ever
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return True
