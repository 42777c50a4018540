"""How much of a strange file is believed. Beyond each of these the line (or the rest of the file) is reported, and left out."""

from __future__ import annotations

MAX_LINE_BYTES = 64 << 20
"""One row, uncompressed: a longer one is passed over without being held in memory."""
MAX_RATIO = 200
"""So many bytes may come out of one byte of a .gz, .zst or Parquet file; text shrinks to a tenth or so."""
FREE_BYTES = 64 << 20
"""So much may come out of any file, however small."""
MAX_WINDOW_LOG = 27
"""The history that a .zst file may ask to be held in memory: 2**27 bytes, as `zstd` itself allows without --long."""
ROWS_AT_ONCE = 16
"""Rows of a Parquet file that are in memory together."""
PARQUET_MEMORY_BYTES = 8 << 30
"""Address space of the process that reads a Parquet file; more than the memory it takes."""
PARQUET_SILENT_S = 120
"""Seconds without a row after which that process counts as stuck."""
CHUNK_BYTES = 1 << 20
BUFFER_BYTES = 1 << 17
