"""Files that are no pictures but are often taken for some: each is named, with what to do about it."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from medvip.errors import UnreadableImages
from medvip.images import read_picture
from medvip.images.inspection import inspect

NIFTI_1 = struct.pack("<i", 348) + bytes(340) + b"n+1\0" + bytes(5000)
NIFTI_2 = struct.pack("<i", 540) + b"n+2\0\r\n\x1a\n" + bytes(5000)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f\nsize 9\n"
DICOM = b"\x08\0\x05\0CS\x0a\0ISO_IR 100\x08\0\x16\0UI\x1a\0" + bytes(300)
IMPLICIT_DICOM = b"\x08\0\0\0\x04\0\0\0\xb0\0\0\0" + bytes(300)


def heic(brand: bytes) -> bytes:
    return struct.pack(">I", 24) + b"ftyp" + brand + bytes(4) + b"mif1" + brand + bytes(500)


@pytest.mark.parametrize(
    ("content", "what", "remedy"),
    [
        (heic(b"heic"), "a HEIC photo", "convert it to JPEG or PNG"),
        (heic(b"mif1"), "a HEIC photo", "convert it to JPEG or PNG"),
        (LFS, "a Git LFS pointer, not the picture itself", "git lfs pull"),
        (NIFTI_1, "a NIfTI volume", "export its slices as PNG"),
        (NIFTI_2, "a NIfTI volume", "export its slices as PNG"),
        (gzip.compress(NIFTI_1), "a NIfTI volume", "export its slices as PNG"),
        (gzip.compress(NIFTI_2), "a NIfTI volume", "export its slices as PNG"),
        (bytes(128) + b"DICM" + bytes(50), "a DICOM file", "export it as PNG"),
        (DICOM, "a DICOM file", "export it as PNG"),
        (IMPLICIT_DICOM, "a DICOM file", "export it as PNG"),
    ],
)
@pytest.mark.parametrize("name", ["scan", "scan.png", "scan.nii.gz"])
def test_each_is_named_by_its_content_with_its_remedy(tmp_path, name, content, what, remedy):
    path = Path(tmp_path, name)
    path.write_bytes(content)
    with pytest.raises(UnreadableImages) as caught:
        read_picture(str(path))
    assert what in caught.value.problem
    assert remedy in caught.value.fix
    reason = inspect([str(path)]).reasons[str(path)]
    assert what in reason
    assert remedy in reason


@pytest.mark.parametrize("content", [gzip.compress(b"just words"), b"\x1f\x8b\x08", b"\0\0\0\x18ftypqt  "])
def test_others_are_no_pictures(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(UnreadableImages, match="not a picture"):
        read_picture(str(path))
