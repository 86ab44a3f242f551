"""Files that are often taken for pictures: told by their content, with what to do about each."""

from __future__ import annotations

import zlib

from medvip.errors import UnreadKind

ENOUGH = 1024
"""Bytes of a file's beginning by which it is told."""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_GZIP = b"\x1f\x8b"
_DICOM_KINDS = frozenset(b"AE AS CS DA DS DT IS LO LT OB OW PN SH SQ ST TM UI UL US UT".split())
_AS_PICTURE = "export it as PNG"


def stranger(start: bytes) -> UnreadKind | None:
    r"""Name a file by its first bytes and say how to mend it; None where nothing is known of it.

    Examples
    --------
    >>> print(stranger(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a"))
    a Git LFS pointer, not the picture itself (to mend it: fetch the picture with: git lfs pull)
    >>> stranger(b"just words") is None
    True
    """
    if _is_dicom(start):
        return UnreadKind("a DICOM file, which is not read here", fix=_AS_PICTURE)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS:
        return UnreadKind("a HEIC photo, which is not read here", fix="convert it to JPEG or PNG")
    if start.startswith(b"version https://git-lfs.github.com/"):
        return UnreadKind(
            "a Git LFS pointer, not the picture itself", fix="fetch the picture with: git lfs pull"
        )
    if _is_nifti(_unzipped(start)):
        return UnreadKind("a NIfTI volume, which is not read here", fix="export its slices as PNG")
    return None


def _is_dicom(start: bytes) -> bool:
    """Whether it is DICOM, with its preamble or, as older devices write it, without."""
    if start[128:132] == b"DICM":
        return True
    group_2_or_8 = start[:2] in (b"\x02\x00", b"\x08\x00") and start[3:4] == b"\x00"
    implicit = start[2:8] in (b"\x00\x00\x04\x00\x00\x00", b"\x01\x00\x04\x00\x00\x00")
    return group_2_or_8 and (start[4:6] in _DICOM_KINDS or implicit)


def _is_nifti(start: bytes) -> bool:
    return start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0")


def _unzipped(start: bytes) -> bytes:
    """What a gzip file begins with, else the bytes themselves."""
    if not start.startswith(_GZIP):
        return start
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, ENOUGH)
    except zlib.error:
        return start
