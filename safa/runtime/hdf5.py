"""HDF5 files that hold their own content: a file from elsewhere may point at any other file of this machine."""

from safa.runtime.errors import UserError, shortened


def refuse_foreign_content(path, content=None):
    """Refuse an HDF5 file whose datasets or links lead to other files (CVE-2026-1669, for instance).

    `content`: of the file, where it is read from memory.

    Raises:
        UserError: with the name of the first.
        OSError: it cannot be read as HDF5.
    """
    import h5py

    def walk(group, seen):
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.SoftLink):
                continue  # what it leads to in this file is walked where it stands
            item = None if isinstance(link, h5py.ExternalLink) else group[name]
            if item is None or isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
                raise UserError(f"{path}: {shortened(name)} lies in another file; use a file that holds its own content")
            address = h5py.h5o.get_info(item.id).addr
            if isinstance(item, h5py.Group) and address not in seen:
                walk(item, seen | {address})

    with h5py.File(content or path) as file:
        walk(file, set())
