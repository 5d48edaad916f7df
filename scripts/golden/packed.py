"""Files that are tracked packed: tests/CMakeLists.txt unpacks them, and the tree stays small."""

import io
import tarfile


def pack(path, name, data):
    """The same bytes whoever packs them, and when."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    with tarfile.open(path, "w:xz", preset=9) as archive:
        archive.addfile(info, io.BytesIO(data))
