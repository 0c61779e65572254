"""Self-contained HTML pages, with all pictures inside."""

import base64
import dataclasses
import os
import typing

from safa.report.drawing import file_bytes
from safa.runtime.errors import UserError
from safa.runtime.files import write_whole

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = os.path.dirname(os.path.abspath(__file__))
MOST_BYTES = 10 * 2**20  # of a page
LEAST_SCALE = 0.75  # of a photo: its text has 10 pixels; narrower screens scroll it
KINDS = {"chart": "png", "photo": "jpeg"}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of a page."""

    figure: "Figure"
    alt: str  # what it shows, for those who do not see it
    caption: str = ""  # text below it
    kind: str = "photo"  # which is scrolled instead of shrunk below LEAST_SCALE; or "chart", which a dark page inverts

    @property
    def source(self):
        """The file as a data URI."""
        content = base64.b64encode(file_bytes(self.figure, KINDS[self.kind])).decode()
        return f"data:image/{KINDS[self.kind]};base64,{content}"

    @property
    def least_width(self):
        """Pixels below which it is scrolled, or 0."""
        return round(LEAST_SCALE * self.figure.bbox.width) if self.kind == "photo" else 0


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a page."""

    name: str  # for links to it
    title: str
    note: str = ""
    columns: tuple = ()  # names, of a table
    rows: tuple = ()  # of the table: lists of texts, of which the first is the row's name
    lines: tuple = ()  # texts, a paragraph each
    pictures: tuple = ()
    texts: tuple = ()  # (title, text) that open on demand


def write_page(path, title, subtitle, sections):
    """Write a page of Sections. Text is escaped, whatever files and ids are called. Raises UserError if it is too large."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.get_template("page.html").render(title=title, subtitle=subtitle, sections=sections)
    content = text.encode("utf-8", "replace")
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: {len(content):,} bytes, more than {MOST_BYTES:,}; ask for fewer pictures")
    write_whole(path, content)
