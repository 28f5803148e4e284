"""Picture files that Pillow does not write: 16-bit colour, TIFF of any numbers, DICOM."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6  # PNG's colour types
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # TIFF's sample formats


def png16(values: NDArray[Any]) -> bytes:
    """Numbers (H, W) or (H, W, C) as a PNG of 16 bits, its rows filtered by turns."""
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    kind = {1: GREY, 2: GREY_ALPHA, 3: RGB, 4: RGBA}[channels]
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    pixel, data, above = 2 * channels, b"", np.zeros(rows.shape[1], np.uint8)
    for number, row in enumerate(rows):
        left = np.concatenate([np.zeros(pixel, np.uint8), row[:-pixel]])
        by = (np.zeros_like(row), left, above)[number % 3]
        data += bytes([number % 3]) + (row - by).tobytes()
        above = row
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def tiff(*pages: NDArray[Any], order: str = "<", deflate: bool = False) -> bytes:
    """Pages of numbers (H, W) or (H, W, C) as a TIFF, uncompressed or deflated."""
    out = b"II*\0" if order == "<" else b"MM\0*"
    out += b"\0\0\0\0"
    link = 4  # where the place of the next page is to be written
    for values in pages:
        channels = values.shape[2] if values.ndim == 3 else 1
        kind = {"u": UNSIGNED, "i": SIGNED, "f": FLOAT}[values.dtype.kind]
        body = values.astype(values.dtype.newbyteorder(order)).tobytes()
        body = zlib.compress(body) if deflate else body
        start = len(out)
        out += body + b"\0" * (len(body) % 2)
        tags: list[tuple[int, str, list[int]]] = [
            (256, "I", [values.shape[1]]),
            (257, "I", [values.shape[0]]),
            (258, "H", [8 * values.dtype.itemsize] * channels),
            (259, "H", [8 if deflate else 1]),
            (262, "H", [2 if channels >= 3 else 1]),
            (273, "I", [start]),
            (277, "H", [channels]),
            (278, "I", [values.shape[0]]),
            (279, "I", [len(body)]),
            *([(338, "H", [2])] if channels == 4 else []),
            (339, "H", [kind] * channels),
        ]
        place = len(out)
        out = out[:link] + struct.pack(order + "I", place) + out[link + 4 :]
        after = place + 2 + 12 * len(tags) + 4
        table, extra = struct.pack(order + "H", len(tags)), b""
        for tag, code, numbers in tags:
            value = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
            if len(value) > 4:
                value, extra = struct.pack(order + "I", after + len(extra)), extra + value
            kind_of = 3 if code == "H" else 4
            table += struct.pack(order + "HHI", tag, kind_of, len(numbers)) + value.ljust(4, b"\0")
        link = place + len(table)
        out += table + b"\0\0\0\0" + extra
    return out


def dicom(path: Path, stored: NDArray[Any], **tags: Any) -> None:
    """Write numbers (H, W) or (frames, H, W) as an uncompressed DICOM file with these tags."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.PatientName = "Secret^Name"
    bits = 8 * stored.dtype.itemsize
    if stored.ndim == 3:
        data.NumberOfFrames = len(stored)
    data.Rows, data.Columns = stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = bits, bits, bits - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
