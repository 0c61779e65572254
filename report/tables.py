"""Recalls as people read them: lines and tables, in percent."""


def recall_line(recalls):
    """Recalls in a line: "R@1 89.84  R@5 96.93  R@10 98.14  R@1% 99.64"."""
    return "  ".join(f"R@{k} {100 * value:.2f}" for k, value in recalls.items())


def tie_warning(result):
    """One line that says what ties do to the recall, or None without ties; `result` as of `retrieval.evaluation.evaluate`."""
    if not result["tied_queries"]:
        return None
    return (
        f"ties: {result['tied_queries']:,} of {result['queries']:,} queries have other references as close as the true "
        "one. Recall counts only closer ones; the pessimistic recall counts these too. If the two differ much, the "
        "network has collapsed to the same descriptors everywhere"
    )


def recall_table(result, published=None):
    """The recalls of a test as a table.

    Args:
        result: of `retrieval.evaluation.evaluate`.
        published: report.published.Published, or None.

    Returns:
        Text of several lines.
    """
    rows = {"recall": [100 * value for value in result["recall"].values()]}
    if result["tied_queries"]:
        rows["pessimistic"] = [100 * value for value in result["pessimistic_recall"].values()]
    for name, recalls in result.items():
        if name.startswith("recall_within_"):
            rows[f"within {name.removeprefix('recall_within_').removesuffix('m')} m"] = [
                100 * each for each in recalls.values()
            ]
    if "recall_acceptable" in result:
        rows["acceptable"] = [100 * value for value in result["recall_acceptable"].values()]
    if published is not None:
        rows["published"] = published.recalls
    lines = [f"{'percent':<12}" + "".join(f"{'R@' + k:>9}" for k in result["recall"])]
    lines += [f"{name:<12}" + "".join(f"{value:9.2f}" for value in values) for name, values in rows.items()]
    if published is not None:
        lines.append(f"published: {published.source}")
    if result["references"] < 100:
        lines.append(f"R@1% of {result['references']} references is recall@1")
    warning = tie_warning(result)
    return "\n".join(lines + [warning] if warning else lines)
