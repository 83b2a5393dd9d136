"""A table in Parquet that says what it was made from: written whole or not at all, checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import SweepError
from gmsa_models.data.atomic import replaced_when_done
from gmsa_models.data.parquet_pages import read_footer

__all__ = ["StoredTable"]


@dataclass(frozen=True)
class StoredTable:
    """A kind of table.

    Attributes:
        schema: of its columns.
        key: under which its metadata say what it was made from.
        name: what it is, for messages, as it stands behind "not".
        run: what makes it, for messages.
    """

    schema: pa.Schema
    key: bytes
    name: str
    run: str

    def write(self, path: Path, table: pa.Table, made: Mapping[str, Any]) -> None:
        """Write a file, which appears whole or not at all.

        Args:
            path: its folder is made.
            table: of `schema`.
            made: what it was made from, plain values.

        Raises:
            OSError: it cannot be written.
        """
        table = table.replace_schema_metadata({self.key: json.dumps(made, sort_keys=True)})
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_when_done(path) as temporary:
            pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)

    def read(self, path: Path) -> pa.Table:
        """A table that `write` wrote.

        Raises:
            SweepError: it is none of this kind, or damaged.
            OSError: it cannot be read.
        """
        with path.open("rb") as file:
            table = self._checked(path, file)
        if self.key not in (table.schema.metadata or {}) or not table.schema.equals(self.schema):
            columns = ", ".join(self.schema.names)
            raise SweepError(f"{path}: not {self.name}, or of another version; expected columns {columns}")
        return table

    def _checked(self, path: Path, file: BinaryIO) -> pa.Table:
        try:
            read_footer(file)  # first: see `check_footer`
            file.seek(0)
            return pq.read_table(file, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise SweepError(f"{path}: not {self.name} ({error}); remove it, and run {self.run} again") from error

    def made_from(self, table: pa.Table) -> dict[str, Any]:
        """What a table of `read` says it was made from."""
        return json.loads(table.schema.metadata[self.key])

    def is_finished(self, path: Path, wanted: Mapping[str, Any]) -> bool:
        """True when a table is there and was made from what is wanted.

        Raises:
            SweepError: it was made from something else.
        """
        if not path.exists():
            return False
        made = self.made_from(self.read(path))
        if differing := [name for name in wanted if made.get(name) != wanted[name]]:
            raise SweepError(f"{path} was made with other {', '.join(differing)}; choose another folder")
        return True
