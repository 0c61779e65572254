"""Tables and curves as files of a folder."""

import os

from safa.report.charts import training_curves
from safa.report.curves import draw_curves
from safa.report.table_formats import as_csv, as_latex, as_markdown
from safa.runtime.files import write_whole

TRAINING = "training.png"  # loss and recall over epochs


def write_tables(folder, tables, rows, authors=None, runs=None):
    """Write tables.md, tables.tex, tables.csv, curves.png, curves.pdf and training.png; returns their names.

    Args:
        folder: it is made if it does not exist.
        tables: of `table_formats.tables_of`.
        rows: of `rows.collect`, which the tables are of.
        authors: {dataset: recalls} of `curves.draw_curves`.
        runs: {name: lines} of `epoch_lines.find_runs`, for the curves of training; none are drawn without.

    Raises:
        OSError: a file cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    written = {"tables.md": as_markdown(tables), "tables.tex": as_latex(tables), "tables.csv": as_csv(rows)}
    for name, text in written.items():
        write_whole(os.path.join(folder, name), text.encode())
    names = [*written, *map(os.path.basename, draw_curves(rows, authors or {}, folder))]
    if runs:
        write_whole(os.path.join(folder, TRAINING), training_curves(runs))
        names.append(TRAINING)
    return names
