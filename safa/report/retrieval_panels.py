"""Panels of single queries: the query, its best references, and the true one."""

import dataclasses

import numpy as np

from safa.report.canvas import BLUE, GREEN, GREY, RED, TEXT, Canvas, fitted, stacked

SHOWN = 5  # best references of a panel
SIDE, FRAME, GAP = 208, 6, 12  # of a reference's image, its frame, the space between; pixels
CAPTION = TEXT + 8  # height of a line of text
CELL = SIDE + 2 * FRAME + GAP
WIDTH = GAP + (SHOWN + 1) * CELL + GAP  # the true reference stands a little apart
WIDE, WIDE_COLUMNS = 2, 2  # ratio from which references, panoramas or polar maps, are drawn in so many columns
SHEET_COLUMNS = 2


@dataclasses.dataclass(frozen=True)
class Shown:
    """A reference in a panel.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        rank: from 1.
        similarity: with the query.
        is_hit: whether it counts as a hit.
        metres: its distance to the truth, or None where the dataset has no positions.
    """

    image: np.ndarray
    rank: int
    similarity: float
    is_hit: bool
    metres: float | None = None

    @property
    def caption(self):
        far = "" if self.metres is None else f", {self.metres:,.0f} m"
        return f"{self.rank:,}: {self.similarity:.3f}{far}"


def retrieval_panel(title, query, best, truth):
    """A panel.

    Args:
        title: what the query is.
        query: (H, W, 3) uint8, BGR.
        best: up to SHOWN Shown, the closest first; hits have a green frame, others a red one.
        truth: Shown; its frame is blue.

    Returns:
        (H, WIDTH, 3) uint8, BGR.
    """
    shown = [*best, truth]
    columns = WIDE_COLUMNS if any(each.image.shape[1] > WIDE * each.image.shape[0] for each in shown) else SHOWN + 1
    cell = CELL if columns > WIDE_COLUMNS else (WIDTH - GAP) // columns
    query = _bounded(query, WIDTH - 2 * GAP, SIDE)
    images = [_bounded(each.image, cell - 2 * FRAME - GAP, SIDE) for each in shown]
    tallest = max(image.shape[0] for image in images)
    below = 2 * FRAME + tallest + CAPTION + GAP
    first = GAP + CAPTION + query.shape[0] + GAP
    canvas = Canvas(WIDTH, first + -(-(SHOWN + 1) // columns) * below)
    canvas.write(title, GAP, GAP, width=WIDTH - 2 * GAP)
    canvas.put(query, GAP, GAP + CAPTION)
    for number, (each, image) in enumerate(zip(shown, images, strict=True)):
        is_truth = number == len(best)
        row, column = divmod(SHOWN if is_truth else number, columns)
        left = GAP + FRAME + column * cell + (GAP if is_truth and columns > WIDE_COLUMNS else 0)
        top = first + FRAME + row * below
        colour = BLUE if is_truth else GREEN if each.is_hit else RED
        canvas.put(image, left, top, colour, FRAME)
        caption = f"truth {each.caption}" if is_truth else each.caption
        canvas.write(caption, left - FRAME, top + tallest + FRAME + 4, GREY, width=cell)
    return canvas.pixels


def contact_sheet(panels):
    """All panels on one picture, at half their size."""
    return stacked([fitted(panel, width=WIDTH // 2) for panel in panels], min(SHEET_COLUMNS, len(panels)))


def _bounded(image, width, height):
    """An image scaled into a box."""
    fits = image.shape[1] * height > image.shape[0] * width
    return fitted(image, width=width) if fits else fitted(image, height=height)
