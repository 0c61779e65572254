"""The result of one test as people read it: lines and a table, in percent."""

import dataclasses

from safa.report.recall_line import tie_warning
from safa.report.result_file import RECALLS
from safa.report.table_formats import AT, tables_of, three_digits
from safa.retrieval.task import AERIAL_TO_GROUND


def result_lines(row, ks=RECALLS):
    """All that a test prints of its result; `row`: rows.Row of one seed; `ks`: K of the recalls."""
    table = result_table(row, ks)
    return [table.title, table.formatted("plain"), *table.below]


def result_table(row, ks=RECALLS):
    """The RecallTable of one test: what was tested, its recalls, and the rest as notes."""
    ((result,), (table,)) = row.results, tables_of([row], columns={AT + k: AT + k for k in ks})
    (first, *others), rank, kinds = table.lines, result.rank, ("panoramas", "aerial images")
    queries, references = kinds[::-1] if row.kind.direction == AERIAL_TO_GROUND else kinds
    notes = [
        *table.notes,
        f"R@1% of {result.references} references is recall@1" if "R@1%" not in table.columns and "1%" in ks else "",
        tie_warning(result.tied_queries, result.queries),
        f"rank of the truth: median {rank['median']:g}, nine tenths of the queries up to {rank['90%']:g} (1 is the best)",
    ]
    if result.metres is not None:
        shares = ", ".join(f"{100 * share:.2f} % within {bound} m" for bound, share in result.metres.within.items())
        notes.append(f"first match: median {result.metres.median:.1f} m from the truth, {shares}")
    if (cost := result.cost) is not None:
        took = "" if cost.milliseconds is None else f", {three_digits(cost.milliseconds)} ms a pair here"
        notes.append(
            f"network: {cost.parameters / 1e6:.2f} M parameters, {three_digits(cost.gmac)} GMAC a pair, descriptors of "
            f"{cost.descriptor:,} values{took}"
        )
    return dataclasses.replace(
        table,
        title=f"{row.kind.table}, {row.kind.title()}: {result.queries:,} {queries} among {result.references:,} {references}",
        lines=[dataclasses.replace(first, title="recall"), *others],
        notes=list(filter(None, notes)),
        corner="percent",
    )
