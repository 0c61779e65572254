"""Panels of single queries: the query, its best references, and the true one."""

import dataclasses

import numpy as np

from safa.report.drawing import HIT, TRUTH, WRONG, Shown, fitted, image_rows

BEST = 5  # references of a panel besides the true one
WIDE = 2  # ratio of width to height above which references, panoramas or polar maps, stand two in a row
SHEET_ROW = 140  # pixels: height of a sheet's images, at most


@dataclasses.dataclass(frozen=True)
class QueryImages:
    """A query and what was found.

    Attributes:
        title: what the query is.
        query: Shown.
        best: list of Shown, the BEST closest references; hits have a green frame, others a red one.
        truth: Shown of the true reference; its frame is blue.
    """

    title: str
    query: Shown
    best: list
    truth: Shown


def query_images(tested, row):
    """The QueryImages of a query; `tested`: figures.FigureSource."""
    task, found, truth = tested.task, tested.found, int(tested.task.truth[row])
    hits = {truth} if task.near is None else set(task.near[row].tolist())
    best = [
        Shown(
            tested.reference(winner), _caption(rank, similarity, tested.metres(row, winner)), HIT if winner in hits else WRONG
        )
        for rank, (winner, similarity) in enumerate(
            zip(found.winners[row, :BEST].tolist(), found.similarities[row, :BEST], strict=True), 1
        )
    ]
    rank = int(found.closer[row]) + 1
    caption = f"truth, {_caption(rank, found.similarity[row], tested.metres(row, truth))}"
    title = f"{tested.pairs.name} {task.ids[row]}: truth at rank {rank:,} of {found.references:,}"
    return QueryImages(title, Shown(tested.query(row)), best, Shown(tested.reference(truth), caption, TRUTH))


def _caption(rank, similarity, metres):
    return f"{rank:,}: {similarity:.3f}" + ("" if metres is None else f", {metres:,.0f} m")


def retrieval_panel(shown):
    """The matplotlib Figure of a QueryImages."""
    if not _is_wide(shown.truth):
        return image_rows([[shown.query], [*shown.best, shown.truth]], shown.title)
    if _is_wide(shown.query):
        return image_rows([[shown.query], *_by_two([*shown.best, shown.truth])], shown.title)
    return image_rows([[shown.query, shown.truth], shown.best[:1], *_by_two(shown.best[1:])], shown.title)


def _by_two(images):
    return [images[start : start + 2] for start in range(0, len(images), 2)]


def _is_wide(shown):
    return shown.image.shape[1] > WIDE * shown.image.shape[0]


def contact_sheet(tested, rows):
    """The matplotlib Figure of queries, a row each: query, best references, truth; of wide ones the best alone."""
    sheet = []
    for row in rows:
        shown = query_images(tested, row)
        images = [shown.query, *(shown.best[:1] if _is_wide(shown.truth) else shown.best), shown.truth]
        widths = [max(1, round(SHEET_ROW * each.image.shape[1] / each.image.shape[0])) for each in images]
        small = [
            Shown(fitted(each.image, width, SHEET_ROW), "", each.frame) for each, width in zip(images, widths, strict=True)
        ]
        widest = int(np.argmax(widths))
        small[widest] = dataclasses.replace(small[widest], caption=shown.title)
        sheet.append(small)
    return image_rows(sheet)
