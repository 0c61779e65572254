"""Tables and curves as files of a folder."""

import os
import re

from safa.report.charts import recall_figure, training_curves
from safa.report.corruption_tables import without_severities
from safa.report.drawing import file_bytes
from safa.report.latex_tables import as_bib, as_latex
from safa.report.table_formats import as_csv, as_markdown
from safa.runtime.files import write_whole
from safa.runtime.outputs import Output, check_outputs

# How the files begin, and end.
EARLIER = re.compile(
    rb"\*\*\S|% needs \\usepackage\{booktabs|@inproceedings|@misc|dataset,split,|(\x89PNG|%PDF).*Matplotlib", re.DOTALL
)


def write_tables(folder, tables, rows, authors=None, runs=None, caption=None, label=None):
    """Write tables.md, .tex, .bib (of the published rows) and .csv, curves.png, .pdf and training.png; returns their names.

    A folder that does not exist is made. Raises UserError if a file of another kind has one of these names.

    Args:
        tables: of `table_formats.tables_of`.
        rows: of `rows.collect`, which the tables are of.
        authors: {dataset: recalls} of `charts.recall_figure`.
        runs: {name: lines} of `epoch_lines.find_runs`, for training.png (default: it is not written).
        caption, label: of the table in LaTeX and Markdown.
    """
    os.makedirs(folder, exist_ok=True)
    curves = recall_figure(without_severities(rows), authors or {})
    written = {
        "tables.md": as_markdown(tables, caption).encode(),
        "tables.tex": as_latex(tables, caption, label).encode(),
        "tables.csv": as_csv(rows).encode(),
        "curves.png": file_bytes(curves),
        "curves.pdf": file_bytes(curves, "pdf"),
    }
    if any(table.sources for table in tables):
        written["tables.bib"] = as_bib(tables).encode()
    if runs:
        written["training.png"] = file_bytes(training_curves(runs))
    check_outputs([Output("--output", os.path.join(folder, name), EARLIER) for name in written])
    for name, content in written.items():
        write_whole(os.path.join(folder, name), content)
    return list(written)
