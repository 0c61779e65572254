"""The recalls of a run on its validation split."""

import contextlib

from safa.retrieval.evaluation import WINNERS, recalls
from safa.retrieval.search import search
from safa.retrieval.task import task_of


def validate(run, title, epoch, stop):
    """Recalls on the validation split (`retrieval.evaluation.recalls`); None in processes that are not the chief's."""
    averages = run.averages if run.adam_steps else contextlib.nullcontext()  # they begin with the first step
    with averages, run.leavable(stop):  # in this order: no signal ends the exchange of weights and averages
        references, queries = run.extractor.pairs(run.val_images, run.describing_batch_size, title)
    if not run.distribution.is_chief:
        return None
    task, every = task_of(run.val_images.pairs), run.settings.run.figures_every
    shows = bool(every and epoch) and epoch % every == 0
    found = search(references, queries, task.truth, task.near, WINNERS * shows)
    if shows:
        from safa.report.figures import validation_sheet

        run.log.picture("validation", validation_sheet(run.val_images, task, found), run.adam_steps)
    return recalls(task, found)
