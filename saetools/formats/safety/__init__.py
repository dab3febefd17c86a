"""The only place that opens files of others: nothing in them is executed, no size is believed.

Whatever is read here was written by somebody else. Before memory is taken for a tensor, its shape
and dtype are compared with the bytes that the file really has, so a file of n bytes costs a small
multiple of n whatever its header says. No pickled object is ever built. What does not fit is one
FormatError that says what was found.

    read_safetensors   .safetensors
    read_torch         .pt, .pth: tensors in dicts and lists; the pickle in it is read, never run
    read_npz           .npz without pickled arrays
    read_json, read_yaml   settings beside the weights

`safetensors_shapes`, `npz_shapes` and `torch_keys` look at headers only, to recognise a format.

Not for files that saetools wrote itself, and not for deciding which format a file has.
"""

from saetools.formats.safety.npz_file import npz_shapes, read_npz
from saetools.formats.safety.safetensors_file import read_safetensors, safetensors_shapes
from saetools.formats.safety.text import read_json, read_yaml
from saetools.formats.safety.torch_file import read_torch, torch_keys

__all__ = [
    "npz_shapes",
    "read_json",
    "read_npz",
    "read_safetensors",
    "read_torch",
    "read_yaml",
    "safetensors_shapes",
    "torch_keys",
]
