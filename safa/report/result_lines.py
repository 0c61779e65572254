"""The result of one test as people read it: lines and a table, in percent."""

from tabulate import tabulate

from safa.report.recall_line import tie_warning
from safa.report.result_file import RECALLS
from safa.report.table_formats import AT, tables_of, three_digits
from safa.retrieval.task import AERIAL_TO_GROUND


def result_lines(row, ks=RECALLS):
    """All that a test prints of its result; `row`: rows.Row of one seed; `ks`: K of the recalls."""
    columns, cells, below = recall_cells(row, ks)
    table = tabulate(cells, columns, "plain", disable_numparse=True, colalign=["left", *["right"] * (len(columns) - 1)])
    return [tested_line(row), table, *below]


def tested_line(row):
    """What was tested, in a line."""
    (result,), kinds = row.results, ("panoramas", "aerial images")
    queries, references = kinds[::-1] if row.kind.direction == AERIAL_TO_GROUND else kinds
    return f"{row.kind.table}, {row.kind.title()}: {result.queries:,} {queries} among {result.references:,} {references}"


def recall_cells(row, ks=RECALLS):
    """The columns of a test's table, its lines, lists of texts; and what stands below the table, a list of lines."""
    ((result,), (table,)) = row.results, tables_of([row], columns={AT + k: AT + k for k in ks})
    cells, rank = table.texts, result.rank
    cells[0][0] = "recall"
    below = [
        *table.below,
        f"R@1% of {result.references} references is recall@1" if "R@1%" not in table.columns and "1%" in ks else "",
        tie_warning(result.tied_queries, result.queries),
        f"rank of the truth: median {rank['median']:g}, nine tenths of the queries up to {rank['90%']:g} (1 is the best)",
    ]
    if result.metres is not None:
        shares = ", ".join(f"{100 * share:.2f} % within {bound} m" for bound, share in result.metres.within.items())
        below.append(f"first match: median {result.metres.median:.1f} m from the truth, {shares}")
    if (cost := result.cost) is not None:
        took = "" if cost.milliseconds is None else f", {three_digits(cost.milliseconds)} ms a pair here"
        below.append(
            f"network: {cost.parameters / 1e6:.2f} M parameters, {three_digits(cost.gmac)} GMAC a pair, descriptors of "
            f"{cost.descriptor:,} values{took}"
        )
    return ["percent", *table.columns], cells, list(filter(None, below))
