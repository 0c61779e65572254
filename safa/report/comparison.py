"""Whether two results on the same queries differ, from their ranks."""

from recall import reported_k
from safa.report.result_file import NoResult, read_result
from safa.retrieval.confidence import LEVEL, RESAMPLES, paired_difference
from safa.runtime.errors import UserError


def compare(first_path, second_path):
    """A table of both recalls, their difference and its interval, as text.

    Raises:
        UserError: a file is no result, holds no ranks, or the two are of other queries.
    """
    first, second = (_with_ranks(path) for path in (first_path, second_path))
    for name, text in (
        ("dataset", "datasets"),
        ("direction", "directions"),
        ("query_ids", "queries"),
        ("queries", "numbers of queries"),
        ("references", "references"),
    ):
        if first[name] != second[name]:
            raise UserError(
                f"{first_path} and {second_path}: of other {text} ({first[name]} and {second[name]}); name two results on the "
                "same"
            )
    lines = [
        f"A: {first_path}",
        f"B: {second_path}",
        f"{first['queries']:,} queries; percent; intervals at {LEVEL:.0%} from {RESAMPLES:,} paired resamples",
        f"{'':<18}{'A':>8}{'B':>8}{'B - A':>9}   {'interval':<18}{'only A':>8}{'only B':>8}",
    ]
    shared = [name for name in first["ranks"] if name in second["ranks"] and name != "first_match"]
    for name in shared:
        prefix = "" if name == "exact" else f"{name.replace('_', ' ')} "
        for k, depth in reported_k(first["references"]).items():
            hits = [result["ranks"][name] < depth for result in (first, second)]
            found = paired_difference(*hits)
            low, high = 100 * found.low, 100 * found.high
            one, two = (100 * recall for recall in found.recalls)
            verdict = "differ" if found.differs else "no difference shown"
            lines.append(
                f"{prefix + 'R@' + k:<18}{one:8.2f}{two:8.2f}{100 * found.difference:+9.2f}   "
                f"{f'{low:+.2f} to {high:+.2f}':<18}{found.only_first:8,}{found.only_second:8,}  {verdict}"
            )
    return "\n".join(lines)


def _with_ranks(path):
    try:
        result = read_result(path)
    except NoResult as error:
        raise UserError(f"{path}: {error}; name the result file of a test") from None
    if "exact" not in result["ranks"]:
        raise UserError(f"{path}: of an earlier version, without ranks; test again")
    return result
