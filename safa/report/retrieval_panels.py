"""Panels of single queries: the query, its best references, and the true one."""

from safa.report.drawing import HIT, TRUTH, WRONG, Shown, fitted, image_rows

BEST = 5  # references of a panel besides the true one
WIDE = 2  # ratio of width to height above which references, panoramas or polar maps, stand two in a row
SHEET_ROW = 140  # pixels: height of a sheet's images, at most


def query_images(tested, row):
    """What a query found; `tested`: figures.FigureSource.

    Returns:
        title: what the query is.
        images: list of Shown: the query; the BEST closest references, hits with a tick in a green frame, others with a cross
            in a red one; the true reference in a blue frame.
    """
    task, found, truth = tested.task, tested.found, int(tested.task.truth[row])
    images, rank, hits = [Shown(tested.query(row))], int(found.closer[row]) + 1, tested.hits(row)
    for number, winner in enumerate(found.winners[row, :BEST].tolist()):
        caption = _caption(number + 1, found.similarities[row, number], tested.metres(row, winner))
        mark, frame = ("✓", HIT) if winner in hits else ("✗", WRONG)
        images.append(Shown(tested.reference(winner), f"{mark} {caption}", frame))
    caption = f"truth, {_caption(rank, found.similarity[row], tested.metres(row, truth))}"
    title = f"{tested.pairs.name} {task.ids[row]}: truth at rank {rank:,} of {found.references:,}"
    return title, [*images, Shown(tested.reference(truth), caption, TRUTH)]


def _caption(rank, similarity, metres):
    return f"{rank:,}: {similarity:.3f}" + ("" if metres is None else f", {metres:,.0f} m")


def retrieval_panel(title, images):
    """The matplotlib Figure of a query; arguments as `query_images` returns them."""
    query, *best, truth = images
    if truth.ratio <= WIDE:
        return image_rows([[query], [*best, truth]], title)
    if query.ratio > WIDE:
        return image_rows([[query], *_by_two([*best, truth])], title)
    return image_rows([[query, truth], best[:1], *_by_two(best[1:])], title)


def _by_two(images):
    return [images[start : start + 2] for start in range(0, len(images), 2)]


def contact_sheet(tested, rows):
    """The matplotlib Figure of queries, a row each: query, best references, truth; of wide ones the best alone."""
    sheet = []
    for row in rows:
        title, (query, *best, truth) = query_images(tested, row)
        images = [query, *(best[:1] if truth.ratio > WIDE else best), truth]
        widest = max(images, key=lambda each: each.ratio)
        sheet.append([])
        for each in images:
            small = fitted(each.image, max(1, round(SHEET_ROW * each.ratio)), SHEET_ROW)
            mark = each.caption.partition(":")[0]  # "✓ 1" of "✓ 1: 0.812"
            sheet[-1].append(Shown(small, f"{mark} {title}".strip() if each is widest else mark, each.frame))
    return image_rows(sheet)
