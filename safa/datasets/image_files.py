"""Image files that are either read whole or refused, and either written whole or not at all."""

import contextlib
import os
import struct
import zlib

import cv2
import numpy as np
import simplejpeg

from safa.runtime.errors import UserError, shortened
from safa.runtime.files import ordinary, write_whole

JPEG_START, JPEG_SCAN, JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
PNG_START, PNG_HEADER, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\rIHDR", b"IEND\xaeB`\x82"
# JPEG markers that open a frame and so carry the image's size (ITU T.81, table B.1).
JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
HEADER_BYTES = 4096  # that hold an image's size, but for long headers
# A small file can claim any size, and decoding takes three bytes a pixel. Street View's largest panoramas, 6656x13312,
# have fewer.
MOST_PIXELS = 100_000_000
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
    except OSError as error:
        raise ImageError(f"{shortened(path)}: {error.strerror or error}") from None
    except UserError as error:  # of `ordinary`
        raise ImageError(str(error)) from None
    except _Unusable as error:
        raise ImageError(f"{shortened(path)}: {error}") from None
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            raise
        raise ImageError(f"{shortened(path)}: too little memory for it") from None


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
        ImageError: the file is missing, empty, truncated, damaged and therefore decoded in part only, neither JPEG
            nor PNG, not of this size, or too large. OpenCV left to itself fills the missing part of a JPEG with grey
            and says nothing.
    """
    return decode_image(path, read_bytes(path), size)


def read_bytes(path):
    """A file's content; an `ImageError` says why there is none."""
    with name_image(path), _open_image(path) as file:
        return file.read()


def decode_image(path, content, size=None):
    """Decode an image file's content; arguments, result and errors as those of `read_image`."""
    with name_image(path):
        found = _content_size(content)
        if size is not None and found != tuple(size):
            raise _Unusable(f"{by_pixels(found)} pixels instead of {by_pixels(size)}")
        return _decoded(content)


def read_input(path, shape):
    """An image as the network takes it.

    Args:
        path: image file.
        shape: (height, width) of the network's input; an image of another size is resized by area.

    Returns:
        (height, width, 3) uint8, BGR.

    Raises:
        UserError: the image cannot be read, or there is too little memory for it.
    """
    try:
        with name_image(path):
            image = read_image(path)
            if image.shape[:2] != tuple(shape):
                image = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
            return image
    except ImageError as error:
        raise UserError(f"{error}; replace the file (prepared files: delete it and run data_preparation.py)") from None


def image_size(path):
    """Height and width in pixels from the header of a JPEG or PNG file that is also whole at its end.

    Reads a few kilobytes: tens of thousands of files are checked before a long run begins.

    Returns:
        (height, width).

    Raises:
        ImageError: as for `read_image`, as far as the header and the end of the file tell.
    """
    with name_image(path), _open_image(path) as file:
        content = file.read(HEADER_BYTES)
        size = _png_size(content) if content.startswith(PNG_START) else _jpeg_size(content)
        length = os.fstat(file.fileno()).st_size
        if size is not None and length > 2 * HEADER_BYTES:
            file.seek(length - HEADER_BYTES)
            if file.read().rfind(JPEG_END if content.startswith(JPEG_START) else PNG_END) >= 0:
                return _bounded(size)
        file.seek(0)  # a small file, a long header or padding: look at all of it
        return _content_size(file.read())


def by_pixels(size):
    """A (height, width) in a message: "112x616"."""
    return f"{size[0]}x{size[1]}"


def same_ratio(size, other):
    """Whether two (height, width) have one aspect ratio, up to the rounding of a resized copy to whole pixels."""
    return abs(size[0] * other[1] - size[1] * other[0]) < max(other)


def _open_image(path):
    try:
        file = open(path, "rb", opener=ordinary)
    except ValueError as error:  # a null byte in the path
        raise _Unusable(error) from None
    length = os.fstat(file.fileno()).st_size
    if length > MOST_BYTES:
        file.close()
        raise _Unusable(f"{length:,} bytes, more than an image may have ({MOST_BYTES:,})")
    return file


def _content_size(content):
    """(height, width) of a JPEG's or PNG's content that has its end; for a PNG, of one without damage."""
    if not content:
        raise _Unusable("empty file")
    if content.startswith(JPEG_START):
        # Entropy-coded data never holds FF D9, so an end marker after the last scan's start means a whole file.
        if not content.rfind(JPEG_END) > content.rfind(JPEG_SCAN) >= 0:
            raise _Unusable(f"truncated after {len(content):,} bytes")
        with _decoder_errors():  # the decoder's own view of the header, wherever it finds one
            return _bounded(simplejpeg.decode_jpeg_header(content)[:2])
    if not content.startswith(PNG_START):
        raise _Unusable("neither a JPEG nor a PNG image")
    _refuse_damaged_png(content)
    return _bounded(_png_size(content))


def _bounded(size):
    if size[0] * size[1] > MOST_PIXELS:
        raise _Unusable(f"{by_pixels(size)} pixels, more than an image may have ({MOST_PIXELS:,})")
    return size


@contextlib.contextmanager
def _decoder_errors():
    try:
        yield
    except ValueError as error:
        if "memory" in str(error):
            raise MemoryError from None
        raise _Unusable(f"damaged; only a part of it can be decoded ({error})") from None


def _decoded(content):
    with _decoder_errors():
        # Four colours are left to OpenCV to convert.
        if content.startswith(JPEG_START) and simplejpeg.decode_jpeg_header(content)[2] not in ("CMYK", "YCCK"):
            # OpenCV's pixels, from the same library; but every warning of the decoder is an error.
            return simplejpeg.decode_jpeg(content, "BGR", strict=True)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise
        image = None
    if image is None:
        raise _Unusable("not an image that can be decoded")
    return image


def _refuse_damaged_png(content):
    """Compare the checksums of all chunks. OpenCV only prints what libpng says of them."""
    if content.rfind(PNG_END) < 0:
        raise _Unusable(f"truncated after {len(content):,} bytes")
    if _png_size(content) is None:
        raise _Unusable("damaged; its first part is no PNG header")
    position, name = len(PNG_START), b""
    while name != b"IEND" and position + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        if (
            end + 4 > len(content)
            or zlib.crc32(memoryview(content)[position + 4 : end]) != struct.unpack_from(">I", content, end)[0]
        ):
            raise _Unusable(f"damaged; the checksum of its part {name.decode('latin1')!r} at byte {position:,} is wrong")
        position = end + 4
    if name != b"IEND":
        raise _Unusable(f"truncated after {len(content):,} bytes")


def _png_size(content):
    if not content.startswith(PNG_START + PNG_HEADER) or len(content) < 24:
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
            return struct.unpack(">HH", content[position + 5 : position + 9])
        else:
            position += 2 + struct.unpack(">H", content[position + 2 : position + 4])[0]
    return None


def write_image(path, image, options=()):
    """Write an image; `path` is only ever absent or whole: encode, write beside it, rename.

    Args:
        path: the file; its extension chooses the format. Its folder must exist.
        image: (height, width, 3) uint8, BGR.
        options: OpenCV's encoder options: `(cv2.IMWRITE_PNG_COMPRESSION, 1)`, for instance.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    encoded, content = cv2.imencode(os.path.splitext(path)[1], image, list(options))
    if not encoded:
        raise ValueError(f"{path}: cannot be encoded")
    write_whole(path, content.data, durable=False)
