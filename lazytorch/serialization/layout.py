"""What is fixed in the file format: record names, storage classes, the few global names.

A file is a zip archive of uncompressed records under one folder: ``data.pkl`` (a pickle in which
each storage is a persistent id), ``byteorder``, ``version`` and one record of raw bytes for each
storage, ``data/<key>``.
"""

from __future__ import annotations

from lazytorch import dtypes
from lazytorch.dtypes import DType

VERSION = b"3\n"
ALIGNMENT = 64
STORAGE_CLASSES: dict[str, DType] = {
    "FloatStorage": dtypes.float32,
    "DoubleStorage": dtypes.float64,
    "HalfStorage": dtypes.float16,
    "BFloat16Storage": dtypes.bfloat16,
    "LongStorage": dtypes.int64,
    "IntStorage": dtypes.int32,
    "ShortStorage": dtypes.int16,
    "CharStorage": dtypes.int8,
    "ByteStorage": dtypes.uint8,
    "BoolStorage": dtypes.bool_,
    "ComplexFloatStorage": dtypes.complex64,
    "ComplexDoubleStorage": dtypes.complex128,
}
STORAGE_NAMES = {dtype: name for name, dtype in STORAGE_CLASSES.items()}
# Dtypes without a storage class of their own travel as bytes with the dtype beside them.
UNTYPED = "UntypedStorage"
