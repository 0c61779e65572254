"""Self-contained HTML pages, with all pictures inside."""

import base64
import dataclasses
import os

import cv2

from safa.runtime.errors import UserError
from safa.runtime.files import write_whole

FOLDER = os.path.dirname(os.path.abspath(__file__))
TEMPLATE = os.path.join(FOLDER, "page.html")
MOST_BYTES = 10 * 2**20  # of a page
JPEG_QUALITY = 85
LEAST_SCALE = 0.75  # of a photo with text: the text has 10 pixels; narrower screens scroll the photo


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        source: data URI.
        alt: what it shows, for those who do not see it.
        width, height: in pixels.
        caption: text below it, or "".
        kind: "chart", which a dark page inverts, or "photo".
        least_width: pixels below which it is scrolled instead of shrunk further; 0: it may shrink.
    """

    source: str
    alt: str
    width: int
    height: int
    caption: str = ""
    kind: str = "photo"
    least_width: int = 0


@dataclasses.dataclass(frozen=True)
class HtmlTable:
    """A table of a page: names of its columns, and rows of texts, of which the first is the row's name."""

    columns: list
    rows: list


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: for links to it.
        title, note: texts; no note is "".
        table: HtmlTable, or None.
        lines: list of texts, a paragraph each.
        pictures: list of Picture.
        texts: list of (title, text) that open on demand.
    """

    name: str
    title: str
    note: str = ""
    table: HtmlTable | None = None
    lines: tuple = ()
    pictures: tuple = ()
    texts: tuple = ()


def chart(content, alt, caption=""):
    """A Picture of the bytes of a PNG file."""
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    return Picture(f"data:image/png;base64,{base64.b64encode(content).decode()}", alt, width, height, caption, "chart")


def photo(pixels, alt, caption="", has_text=False):
    """A Picture of (H, W, 3) uint8 BGR pixels, as JPEG; one that has text stays large enough to read it."""
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    source = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    least_width = round(LEAST_SCALE * pixels.shape[1]) if has_text else 0
    return Picture(source, alt, pixels.shape[1], pixels.shape[0], caption, "photo", least_width)


def write_page(path, title, subtitle, sections, template=TEMPLATE, **values):
    """Write a page. Text is escaped, whatever files and ids are called.

    Args:
        path: of the .html file.
        title, subtitle: texts.
        sections: list of Section.
        template: path of a Jinja2 template that extends "page.html"; its blocks are `style`, `main` and `end`.
        values: what else the template shows.

    Raises:
        UserError: Jinja2 is missing, or the page is too large.
        OSError: it cannot be written.
    """
    try:
        import jinja2
    except ImportError:
        raise UserError(f"{path}: a page needs Jinja2; pip install jinja2") from None
    loader = jinja2.FileSystemLoader([os.path.dirname(template), FOLDER])
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.get_template(os.path.basename(template)).render(
        title=title, subtitle=subtitle, sections=sections, **values
    )
    content = text.encode("utf-8", "replace")
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: {len(content):,} bytes, more than {MOST_BYTES:,}; ask for fewer pictures")
    write_whole(path, content)
