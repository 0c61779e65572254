"""The result of one test as people read it: lines and a table, in percent."""

from safa.retrieval.task import AERIAL_TO_GROUND


def recall_line(recalls):
    """Recalls in a line: "R@1 89.84  R@5 96.93  R@10 98.14  R@1% 99.64"."""
    return "  ".join(f"R@{k} {100 * value:.2f}" for k, value in recalls.items())


def tie_warning(result):
    """One line that says what ties do to the recall, or None without ties; `result` as of `retrieval.evaluation.recalls`."""
    if not result["tied_queries"]:
        return None
    return (
        f"ties: {result['tied_queries']:,} of {result['queries']:,} queries have other references as close as the true "
        "one. Recall counts only closer ones; the pessimistic recall counts these too. If the two differ much, the "
        "network has collapsed to the same descriptors everywhere"
    )


def tested_line(name, network, result):
    """What was tested, in a line.

    Args:
        name: of dataset and split.
        network: settings.NetworkConfig.
        result: of the test: "queries", "references", "direction", "view", "trained_on", "dataset".
    """
    kinds = ("panoramas", "aerial images")
    kinds = kinds[::-1] if result["direction"] == AERIAL_TO_GROUND else kinds
    trained_on = result["trained_on"]
    parts = [
        f"trained on {trained_on}" if trained_on is not None and not result["dataset"].startswith(trained_on) else "",
        result["view"].replace("_", " "),
    ]
    what = ", ".join([f"{name}, {network}", *filter(None, parts)])
    return f"{what}: {result['queries']:,} {kinds[0]} among {result['references']:,} {kinds[1]}"


def recall_table(result, published=None):
    """The recalls of a test as a table.

    Args:
        result: of `retrieval.evaluation.evaluate`.
        published: report.published.Published, or None.

    Returns:
        Text of several lines.
    """
    rows = recall_rows(result, published)
    lines = [f"{'percent':<12}" + "".join(f"{'R@' + k:>9}" for k in result["recall"])]
    lines += [f"{title:<12}" + "".join(f"{value:9.2f}" for value in values) for title, values in rows]
    if published is not None:
        lines.append(f"published: {published.source}")
    if result["references"] < 100:
        lines.append(f"R@1% of {result['references']} references is recall@1")
    warning = tie_warning(result)
    return "\n".join(lines + [warning] if warning else lines)


def recall_rows(result, published=None):
    """The rows of a test's table: [(title, percents)]; arguments as of `recall_table`."""
    rows = []
    for key, title in recall_titles(result).items():
        rows.append((title, [100 * value for value in result[key].values()]))
        for number, end in enumerate(("  95 % from", "  to")):
            if key in result["intervals"]:
                rows.append((end, [100 * interval[number] for interval in result["intervals"][key].values()]))
    if published is not None:
        rows.append(("published", published.recalls))
    return rows


def recall_titles(result):
    """The recalls that a result has, in the order in which they are shown: {key: title}."""
    titles = {"recall": "recall"} | ({"pessimistic_recall": "pessimistic"} if result["tied_queries"] else {})
    for key in result:
        if key.startswith("recall_within_"):
            titles[key] = f"within {key.removeprefix('recall_within_').removesuffix('m')} m"
    return titles | ({"recall_acceptable": "acceptable"} if "recall_acceptable" in result else {})


def rank_lines(result):
    """Lines on ranks, metres and headings, as far as a result of `retrieval.evaluation.evaluate` has them."""
    rank = result["rank"]
    lines = [f"rank of the truth: median {rank['median']:g}, nine tenths of the queries up to {rank['90%']:g} (1 is the best)"]
    if "metres" in result:
        shares = ", ".join(f"{100 * share:.2f} % within {bound} m" for bound, share in result["metres"]["within"].items())
        lines.append(f"first match: median {result['metres']['median']:.1f} m from the truth, {shares}")
    if "heading_right" in result:
        lines.append(f"heading of the true match right (off by less than 11.25 degrees): {100 * result['heading_right']:.2f} %")
    return lines


def cost_line(cost):
    """What a network costs, in a line; `cost`: "parameters", "gmac", "descriptor", "milliseconds" or None."""
    took = "" if cost["milliseconds"] is None else f", {cost['milliseconds']:.3g} ms a pair here"
    return (
        f"network: {cost['parameters'] / 1e6:.2f} M parameters, {cost['gmac']:.3g} GMAC a pair, descriptors of "
        f"{cost['descriptor']:,} values{took}"
    )
