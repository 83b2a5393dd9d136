"""The study over seeds and tasks: models that it trains itself, and when local attention helps."""

from pathlib import Path

__all__ = ["SHIPPED"]

SHIPPED = Path(__file__).with_name("study.parquet")  # the table that the documentation and the figures read
