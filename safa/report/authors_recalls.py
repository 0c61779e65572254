"""The authors' own recalls, in the files that their page links."""

import numpy as np

from safa.runtime.errors import UserError, first_line
from safa.runtime.files import ordinary
from safa.runtime.mat_file import read_mat

MOST_BYTES = 2**26  # of a text file


def read_recalls(path):
    """recall@1, @2, ... from a file: the one list of numbers in a .mat or .npy file, or the numbers of a text file.

    Returns:
        (n,) float64 percent; values that are all at most 1 are fractions. A 0 before the others is left out: the authors'
        scripts count recall@0, recall@1, ...

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        with open(path, "rb", opener=ordinary) as file:
            if path.endswith(".mat"):
                arrays = (value for name, value in read_mat(file).items() if not name.startswith("_"))
                (numbers,) = (array for array in arrays if array.dtype.kind in "fiu" and array.size > 1)
            elif path.endswith(".npy"):
                numbers = np.lib.format.open_memmap(path, mode="r")  # refuses a header that promises too much
            else:
                numbers = file.read(MOST_BYTES).decode("utf-8-sig").replace(",", " ").split()
        recalls = np.ravel(np.asarray(numbers, np.float64))
        if not (recalls.size and (np.diff(recalls, prepend=0, append=100) >= 0).all()):  # NaN is not
            raise ValueError("numbers between 0 and 100, or fractions, that never fall are expected")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; name a file of recalls") from None
    except UserError:
        raise
    except Exception as error:  # whatever broken bytes lead the readers to
        raise UserError(f"{path}: not a list of recalls ({first_line(error)}); name a .mat, .npy or text file") from None
    if len(recalls) > 1 and not recalls[0]:
        recalls = recalls[1:]
    return recalls * (100 if recalls.max() <= 1 else 1)
