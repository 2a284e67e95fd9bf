"""`inputs.json` of a run directory: what the run read, by content; and how that differs from what is there now.

Labels are hashed when a run starts, images once training has read them. As long as a file's stamp stays the same, its
content is not read again; a file with another stamp, or a copied run directory, is compared by content.
"""

from kd.inputs.differences import differences, differing_files
from kd.inputs.hashing import Listed, rows_of
from kd.inputs.record import (
    WAS_NOT_RECORDED,
    Accepted,
    InputFile,
    Inputs,
    Split,
    SplitInputs,
    TeacherInputs,
    has_inputs,
    read_copies,
    read_inputs,
    write_copies,
    write_inputs,
)

__all__ = [
    "WAS_NOT_RECORDED",
    "Accepted",
    "InputFile",
    "Inputs",
    "Listed",
    "Split",
    "SplitInputs",
    "TeacherInputs",
    "differences",
    "differing_files",
    "has_inputs",
    "read_copies",
    "read_inputs",
    "rows_of",
    "write_copies",
    "write_inputs",
]
