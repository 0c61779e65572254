"""Whether two results on the same queries differ, from their ranks."""

import numpy as np
from scipy import stats
from tabulate import tabulate

from recall import reported_k
from safa.report.recall_line import tie_warning
from safa.report.result_file import read_result
from safa.retrieval.confidence import LEVEL, paired_difference
from safa.runtime.errors import UserError, printable

SAME = {"dataset": "datasets", "split": "splits", "direction": "directions", "query_ids": "queries"}
SAME |= {"queries": "numbers of queries", "references": "references"}
AGAINST = "R@1 less that of"  # begins what `welch_note` says


def compare(first_path, second_path):
    """A table of both recalls, their difference and its interval, as text. Raises UserError for results of other queries."""
    first, second = (read_result(path, "name the result file of a test") for path in (first_path, second_path))
    for name, text in SAME.items():
        if (one := getattr(first, name)) != (two := getattr(second, name)):
            raise UserError(f"{first_path} and {second_path}: of other {text} ({one} and {two}); name two results on the same")
    lines = []
    for name in (name for name in first.ranks if name in second.ranks and name != "first_match"):
        prefix = "" if name == "exact" else f"{name.replace('_', ' ')} "
        for k, depth in reported_k(first.references).items():
            found = paired_difference(*(result.ranks[name] < depth for result in (first, second)))
            cells = [f"{prefix}R@{k}", *(f"{100 * recall:.2f}" for recall in found.recalls), f"{100 * found.difference:+.2f}"]
            cells += [f"{100 * found.low:+.2f} to {100 * found.high:+.2f}", f"{found.p_value:.2g}", f"{found.only_first:,}"]
            lines.append([*cells, f"{found.only_second:,}", "differ" if found.differs else "no difference shown"])
    columns = ["", "A", "B", "B - A", "interval", "p", "only A", "only B", ""]
    table = tabulate(lines, columns, disable_numparse=True, colalign=["left", *["right"] * (len(columns) - 1)])
    about = f"{first.queries:,} queries; percent; each line alone: {LEVEL:.0%} interval (Newcombe, paired), p (McNemar, exact)"
    names = [f"A: {printable(first_path)}", f"B: {printable(second_path)}"]
    ties = [tie_warning(each.tied_queries, each.queries) for each in (first, second)]
    return "\n".join(filter(None, [names[0], ties[0], names[1], ties[1], about, table]))


def welch_note(rows, title, with_sizes):
    """A line on R@1 of one table's rows of several seeds against the row of that title; None if there is nothing to compare.

    By Welch's t-test, which assumes no equal variance; p-values are multiplied by the number of comparisons (Bonferroni).
    """
    several = [row for row in rows if len(row.results) > 1]
    base = next((row for row in several if title in (row.title(), row.title(with_sizes))), None)
    others = [row for row in several if base is not None and row is not base and row.task == base.task]
    if not others:
        return None
    of_base, *of_others = ([100 * result.recalls["recall"]["1"] for result in row.results] for row in (base, *others))
    texts = []
    for row, found in zip(others, of_others, strict=True):
        p_value = stats.ttest_ind(found, of_base, equal_var=False).pvalue
        spread = len({*found}) + len({*of_base}) > 2  # without any, the test would be certain
        p_text = f"p {min(1, len(others) * p_value):.2g}" if spread else "no p, as no seed differs"
        texts.append(f"{row.title(with_sizes)} {np.mean(found) - np.mean(of_base):+.2f}, {p_text}")
    about = f"{len(others)} comparisons (Welch's t-test over seeds, p multiplied by {len(others)})"
    return f"{AGAINST} {base.title(with_sizes)}, {about}: {'; '.join(texts)}"
