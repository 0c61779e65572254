"""Self-contained HTML pages, with all pictures inside."""

import base64
import dataclasses
import os

import cv2

from safa.report.drawing import bgr_pixels
from safa.runtime.errors import UserError
from safa.runtime.files import write_whole

FOLDER = os.path.dirname(os.path.abspath(__file__))
MOST_BYTES = 10 * 2**20  # of a page
JPEG_QUALITY = 85
LEAST_SCALE = 0.75  # of a photo: its text has 10 pixels; narrower screens scroll it


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
    caption: str
    kind: str
    least_width: int = 0


@dataclasses.dataclass(frozen=True)
class HtmlTable:
    """A table of a page: names of its columns, and rows of texts, of which the first is the row's name."""

    columns: list
    rows: list


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a page.

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


def photo(figure, alt, caption=""):
    """A Picture of a matplotlib Figure of images and text, as JPEG; it stays large enough to read the text."""
    pixels = bgr_pixels(figure)
    height, width = pixels.shape[:2]
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    source = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return Picture(source, alt, width, height, caption, "photo", round(LEAST_SCALE * width))


def write_page(path, title, subtitle, sections):
    """Write a page. Text is escaped, whatever files and ids are called.

    Args:
        path: of the .html file.
        title, subtitle: texts.
        sections: list of Section.

    Raises:
        UserError: Jinja2 is missing, or the page is too large.
        OSError: it cannot be written.
    """
    try:
        import jinja2
    except ImportError:
        raise UserError(f"{path}: a page needs Jinja2; pip install jinja2") from None
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.get_template("page.html").render(title=title, subtitle=subtitle, sections=sections)
    content = text.encode("utf-8", "replace")
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: {len(content):,} bytes, more than {MOST_BYTES:,}; ask for fewer pictures")
    write_whole(path, content)
