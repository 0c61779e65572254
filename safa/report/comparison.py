"""Whether two results on the same queries differ, from their ranks."""

from tabulate import tabulate

from recall import reported_k
from safa.report.result_file import read_result
from safa.retrieval.confidence import LEVEL, paired_difference
from safa.runtime.errors import UserError, printable

SAME = {"dataset": "datasets", "direction": "directions", "query_ids": "queries"}
SAME |= {"queries": "numbers of queries", "references": "references"}


def compare(first_path, second_path):
    """A table of both recalls, their difference and its interval, as text.

    Raises:
        UserError: a file is not a result, or the two are of other queries.
    """
    first, second = (read_result(path, "name the result file of a test") for path in (first_path, second_path))
    for name, text in SAME.items():
        if (one := getattr(first, name)) != (two := getattr(second, name)):
            raise UserError(f"{first_path} and {second_path}: of other {text} ({one} and {two}); name two results on the same")
    lines = []
    for name in (name for name in first.ranks if name in second.ranks and name != "first_match"):
        prefix = "" if name == "exact" else f"{name.replace('_', ' ')} "
        for k, depth in reported_k(first.references).items():
            found = paired_difference(*(result.ranks[name] < depth for result in (first, second)))
            lines.append(
                [
                    f"{prefix}R@{k}",
                    *(f"{100 * recall:.2f}" for recall in found.recalls),
                    f"{100 * found.difference:+.2f}",
                    f"{100 * found.low:+.2f} to {100 * found.high:+.2f}",
                    f"{found.p_value:.2g}",
                    f"{found.only_first:,}",
                    f"{found.only_second:,}",
                    "differ" if found.differs else "no difference shown",
                ]
            )
    columns = ["", "A", "B", "B - A", "interval", "p", "only A", "only B", ""]
    table = tabulate(lines, columns, disable_numparse=True, colalign=["left", *["right"] * (len(columns) - 1)])
    about = f"{first.queries:,} queries; percent; intervals at {LEVEL:.0%} (Newcombe's, paired); p: McNemar's exact test"
    return f"A: {printable(first_path)}\nB: {printable(second_path)}\n{about}\n{table}"
