"""The IDX file format of MNIST: a big-endian header of type, rank and sizes, then the numbers in C order.

Source: the description on Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | os.PathLike[str]) -> npt.NDArray[Any]:
    """Read one IDX file, gzip-compressed or not.

    Whether the file is compressed is told by its first bytes, not by its name.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    ndarray
        The numbers with the sizes and the type that the header states, in native byte order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not an IDX file, or shorter or longer than its header says.

    References
    ----------
    .. [1] Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", section "File formats".

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "labels-idx1-ubyte")
    ...     _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     read_idx(file)
    array([7, 2, 1], dtype=uint8)
    """
    content = Path(path).read_bytes()
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}). Fetch it again.") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or content[3] == 0:
        raise ValueError(
            f"{path} is not an IDX file: its first four bytes are {content[:4].hex(' ') or 'missing'}, "
            "but must be 00 00, a type (08, 09, 0b, 0c, 0d or 0e) and a rank of at least 1."
        )
    dtype = np.dtype(_TYPES[content[2]])
    rank = content[3]
    header_bytes = 4 + 4 * rank
    if len(content) < header_bytes:
        raise ValueError(
            f"{path} is truncated: {len(content)} bytes, but its header alone has {header_bytes}. Fetch it again."
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=rank, offset=4))
    expected = header_bytes + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        fault = "truncated" if len(content) < expected else "too long"
        raise ValueError(
            f"{path} is {fault}: {len(content)} bytes, but its header of {dtype.newbyteorder('=')} numbers "
            f"with shape {shape} makes it {expected}. Fetch it again."
        )
    numbers = np.frombuffer(content, dtype, offset=header_bytes).reshape(shape)
    return numbers.astype(dtype.newbyteorder("="))
