"""Image files that are either read whole or refused, and either written whole or not at all."""

import contextlib
import io
import os
import re
import struct

import cv2
import numpy as np
import simplejpeg
from PIL.PngImagePlugin import PngImageFile

from safa.runtime.errors import UserError, first_line, shortened
from safa.runtime.files import ordinary, write_whole

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"IEND\xaeB`\x82"
MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # FF 00 and FF D0 to FF D7 belong to a scan
METADATA = re.compile(rb"[\xe0-\xed\xef\xfe]|\xee(?!..Adobe)", re.DOTALL)
EDGE_BYTES = 4096  # of a file's beginning and end, which hold its size and its end marker, but for long headers
# A small file can claim any size, and decoding takes three bytes a pixel.
MOST_PIXELS = 16384 * 8192  # Street View's largest panoramas
MOST_BYTES = 8 * MOST_PIXELS  # of a file: the most that a PNG of so many pixels holds without compression


class ImageError(Exception):
    """An image file that is missing, broken or of the wrong size; the text names the file and what is wrong with it."""


class ImageMissing(ImageError):
    """An image file that does not exist."""


@contextlib.contextmanager
def name_image(path):
    """Turn what goes wrong inside into an `ImageError` that names the image: also a lack of memory belongs to it."""
    try:
        yield
    except FileNotFoundError as error:
        raise ImageMissing(f"{shortened(path)}: {error.strerror}") from None
    except UserError as error:  # of `ordinary`
        raise ImageError(str(error)) from None
    except (OSError, _Unusable) as error:
        raise ImageError(f"{shortened(path)}: {getattr(error, 'strerror', None) or error}") from None
    except Exception as error:
        if not _lacks_memory(error):
            raise
        raise ImageError(f"{shortened(path)}: too little memory for it") from None


def _lacks_memory(error):
    return isinstance(error, MemoryError) or "memory" in str(error) or getattr(error, "code", 0) == cv2.Error.StsNoMem


class _Unusable(Exception):
    """What is wrong with an image, without its name."""


def read_image(path, size=None):
    """Decode an image file.

    Args:
        path: JPEG or PNG file, recognised by its content.
        size: (height, width) that the image must have, if any; another one is refused before it is decoded.

    Returns:
        (height, width, 3) uint8, BGR, the pixels as they are stored: north is up whatever a camera's tag says.

    Raises:
        ImageError: the file is missing, empty, truncated, damaged and so decoded in part only, neither JPEG nor PNG, of 16
            bits a colour, not of this size, or too large. OpenCV alone fills the missing part of a JPEG with grey, silently.
    """
    with _open_image(path) as file:
        content = file.read()
        try:
            return _decoded(content, size)
        except _Unusable:
            if not content.startswith(JPEG_START):
                raise
            return _decoded(_tidied(content), size)


def read_input(path, shape, change=None):
    """An image as the network takes it: (*shape, 3) uint8, BGR, after `change`, resized by area if its size is another.

    Raises UserError if it cannot be read, or there is too little memory for it.
    """
    try:
        with name_image(path):
            image = read_image(path) if change is None else change(read_image(path))
            if image.shape[:2] != tuple(shape):
                image = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
            return image
    except ImageError as error:
        raise UserError(f"{error}; replace the file (prepared files: delete it and run data_preparation.py)") from None


def image_size(path):
    """(height, width) from the header of a JPEG or PNG file that is also whole at its end; errors as of `read_image`.

    Reads a few kilobytes: tens of thousands of files are checked before a long run begins. A file with a long header is read
    whole, and one with other bytes after its end is decoded.
    """
    with _open_image(path) as file:
        is_jpeg = file.read(2) == JPEG_START
        file.seek(max(0, os.fstat(file.fileno()).st_size - EDGE_BYTES))
        end = file.read()
        # Entropy-coded data never holds FF D9, so an end marker after the last scan's start means a whole file.
        whole = end.rfind(JPEG_END) > end.rfind(JPEG_SCAN) if is_jpeg else PNG_END in end
        for length in (EDGE_BYTES, MOST_BYTES) if whole else ():
            file.seek(0)
            with contextlib.suppress(_Unusable):
                return _header_size(file.read(length))
    return read_image(path).shape[:2]


def size_or_error(path):
    """As `image_size`; an ImageError is returned, not raised."""
    try:
        return image_size(path)
    except ImageError as error:
        return error


def by_pixels(size):
    """A (height, width) in a message: "112x616"."""
    return f"{size[0]}x{size[1]}"


def same_ratio(size, other):
    """Whether two (height, width) have one aspect ratio, up to the rounding of a resized copy to whole pixels."""
    return abs(size[0] * other[1] - size[1] * other[0]) < max(other)


@contextlib.contextmanager
def _open_image(path):
    with name_image(path):
        try:
            file = open(path, "rb", opener=ordinary)
        except ValueError as error:  # a null byte in the path
            raise _Unusable(error) from None
        with file:
            if (length := os.fstat(file.fileno()).st_size) > MOST_BYTES:
                raise _Unusable(f"{length:,} bytes, more than an image may have ({MOST_BYTES:,})")
            yield file


def _header_size(content):
    """(height, width) that the beginning of a JPEG or PNG claims; refuses all others."""
    if content.startswith(JPEG_START):
        with _decoder_errors():  # the decoder's own view of the header, wherever it finds one
            size = simplejpeg.decode_jpeg_header(content)[:2]
    elif content.startswith(PNG_START) and len(content) >= 24:
        size = struct.unpack_from(">II", content, 16)[::-1]
        if content[24:25] == b"\x10":  # OpenCV would take the upper byte, which is all dark where 12 of the bits are used
            raise _Unusable("colours of 16 bits instead of 8; convert it")
    else:
        raise _Unusable("neither a JPEG nor a PNG image" if content else "empty file")
    if size[0] * size[1] > MOST_PIXELS:
        raise _Unusable(f"{by_pixels(size)} pixels, more than an image may have ({MOST_PIXELS:,})")
    return size


@contextlib.contextmanager
def _decoder_errors():
    try:
        yield
    except Exception as error:  # whatever broken bytes lead a decoder to
        if _lacks_memory(error):
            raise
        if "subsampling" in str(error) or isinstance(error, LookupError):  # simplejpeg has a list of those it knows
            raise _Unusable("a rare colour subsampling, which is not supported; save it again with 4:2:0 or 4:4:4") from None
        raise _Unusable(f"damaged; only a part of it can be decoded ({first_line(error)})") from None


def _decoded(content, size):
    found = _header_size(content)
    if size is not None and found != tuple(size):
        raise _Unusable(f"{by_pixels(found)} pixels instead of {by_pixels(size)}")
    with _decoder_errors():
        if content.startswith(JPEG_START):
            four_colours = simplejpeg.decode_jpeg_header(content)[2] in ("CMYK", "YCCK")
            # OpenCV's pixels, from the same library; but every warning of the decoder is an error.
            image = simplejpeg.decode_jpeg(content, "CMYK" if four_colours else "BGR", strict=True)
            if not four_colours:  # which are left to OpenCV to convert
                return image
        else:
            PngImageFile(io.BytesIO(content)).verify()  # all checksums; OpenCV only prints what libpng says of them
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise _Unusable("not an image that can be decoded")
    return image


def _tidied(content):
    """A JPEG without what costs no pixel but makes the decoder warn, as cameras write it; refuses one without its own end.

    Left out are bytes between segments and after the end, metadata (but for Adobe's, which names the colours), and zeros
    after a scan; a sequential scan gets the parameters that all of them have. Whether every row is there, the decoder says.
    """
    kept, at, sequential = [JPEG_START], 2, False
    while found := MARKER.search(content, at):
        start = found.end()
        code, at = content[start - 1], start + int.from_bytes(content[start : start + 2], "big")
        segment = content[start:at]
        if code == JPEG_END[1]:
            return b"".join([*kept, JPEG_END])
        if code == JPEG_SCAN[1]:
            following = MARKER.search(content, at)
            scan = content[at : following.start() if following else None]
            if scan.endswith(b"\0\0"):
                scan = scan.rstrip(b"\0")
                scan += b"\0" * scan.endswith(b"\xff")  # which stands for the byte FF
            kept += JPEG_SCAN, segment[:-3] + b"\0\x3f\0" if sequential else segment, scan
        elif not METADATA.match(content, start - 1):
            sequential |= code in (0xC0, 0xC1)
            kept.append(bytes([0xFF, code]) + segment)
    raise _Unusable(f"truncated after {len(content):,} bytes")


def write_image(path, image, options=()):
    """Write an image, (height, width, 3) uint8, BGR, in the format of the file's extension: the file whole or not at all.

    `options`: OpenCV's encoder options, `(cv2.IMWRITE_PNG_COMPRESSION, 1)` for instance.
    """
    encoded, content = cv2.imencode(os.path.splitext(path)[1], image, list(options))
    if not encoded:
        raise ValueError(f"{path}: cannot be encoded")
    write_whole(path, content.data, durable=False)
