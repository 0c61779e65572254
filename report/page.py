"""One page that shows a test: self-contained HTML, with all pictures inside."""

from runtime.errors import UserError
from runtime.files import write_whole

import base64
import dataclasses
import os

import cv2

TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page.html")
MOST_BYTES = 10 * 2**20  # of a page
JPEG_QUALITY = 85


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        source: data URI.
        alt: what it shows, for those who do not see it.
        width, height: in pixels.
        caption: text below it, or "".
    """

    source: str
    alt: str
    width: int
    height: int
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a page: names of its columns, and rows of texts."""

    columns: list
    rows: list


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: for links to it.
        title, note: texts; no note is "".
        pictures: list of Picture.
        table: Table, or None.
        texts: list of (title, text) that open on demand.
    """

    name: str
    title: str
    note: str = ""
    pictures: tuple = ()
    table: Table | None = None
    texts: tuple = ()


def chart(content, alt, caption=""):
    """A Picture of the bytes of a PNG file."""
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    return Picture(f"data:image/png;base64,{base64.b64encode(content).decode()}", alt, width, height, caption)


def photo(pixels, alt, caption=""):
    """A Picture of (H, W, 3) uint8 BGR pixels, as JPEG."""
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    source = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return Picture(source, alt, pixels.shape[1], pixels.shape[0], caption)


def write_page(path, title, subtitle, columns, rows, lines, sections):
    """Write a page. Text is escaped, whatever files and ids are called.

    Args:
        path: of the .html file.
        title, subtitle: texts.
        columns: names of the recalls; rows: [(title, texts)].
        lines: further texts on the result.
        sections: list of Section.

    Raises:
        UserError: Jinja2 is missing, or the page is too large.
        OSError: it cannot be written.
    """
    try:
        import jinja2
    except ImportError:
        raise UserError("--report: needs Jinja2; pip install jinja2") from None
    with open(TEMPLATE, encoding="utf-8") as file:
        template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(file.read())
    rows = [{"title": name, "cells": cells} for name, cells in rows]
    text = template.render(title=title, subtitle=subtitle, columns=columns, rows=rows, lines=lines, sections=sections)
    content = text.encode("utf-8", "replace")
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: {len(content):,} bytes, more than {MOST_BYTES:,}; ask for fewer --figures or --attention")
    write_whole(path, content)
