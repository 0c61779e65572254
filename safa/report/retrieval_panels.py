"""Panels of single queries: the query, its best references, and the true one."""

import dataclasses

import numpy as np

from safa.report.drawing import HIT, TRUTH, WRONG, Shown, fitted, image_rows

BEST = 5  # references of a panel besides the true one
WIDE = 2  # ratio of width to height above which references, panoramas or polar maps, stand two in a row
SHEET_ROW = 140  # pixels: height of a sheet's images, at most


def query_images(tested, row):
    """What a query found; `tested`: figures.FigureSource.

    Returns:
        title: what the query is.
        images: list of Shown: the query; the BEST closest references, hits in a green frame, others in a red one; the true
            reference in a blue frame.
    """
    task, found, truth = tested.task, tested.found, int(tested.task.truth[row])
    hits = {truth} if task.near is None else set(task.near[row].tolist())
    images, rank = [Shown(tested.query(row))], int(found.closer[row]) + 1
    for number, winner in enumerate(found.winners[row, :BEST].tolist()):
        caption = _caption(number + 1, found.similarities[row, number], tested.metres(row, winner))
        images.append(Shown(tested.reference(winner), caption, HIT if winner in hits else WRONG))
    caption = f"truth, {_caption(rank, found.similarity[row], tested.metres(row, truth))}"
    title = f"{tested.pairs.name} {task.ids[row]}: truth at rank {rank:,} of {found.references:,}"
    return title, [*images, Shown(tested.reference(truth), caption, TRUTH)]


def _caption(rank, similarity, metres):
    return f"{rank:,}: {similarity:.3f}" + ("" if metres is None else f", {metres:,.0f} m")


def retrieval_panel(title, images):
    """The matplotlib Figure of a query; arguments as `query_images` returns them."""
    query, *best, truth = images
    if not _is_wide(truth):
        return image_rows([[query], [*best, truth]], title)
    if _is_wide(query):
        return image_rows([[query], *_by_two([*best, truth])], title)
    return image_rows([[query, truth], best[:1], *_by_two(best[1:])], title)


def _by_two(images):
    return [images[start : start + 2] for start in range(0, len(images), 2)]


def _is_wide(shown):
    return shown.image.shape[1] > WIDE * shown.image.shape[0]


def contact_sheet(tested, rows):
    """The matplotlib Figure of queries, a row each: query, best references, truth; of wide ones the best alone."""
    sheet = []
    for row in rows:
        title, (query, *best, truth) = query_images(tested, row)
        images = [query, *(best[:1] if _is_wide(truth) else best), truth]
        widths = [max(1, round(SHEET_ROW * each.image.shape[1] / each.image.shape[0])) for each in images]
        small = [
            Shown(fitted(each.image, width, SHEET_ROW), "", each.frame) for each, width in zip(images, widths, strict=True)
        ]
        widest = int(np.argmax(widths))
        small[widest] = dataclasses.replace(small[widest], caption=title)
        sheet.append(small)
    return image_rows(sheet)
