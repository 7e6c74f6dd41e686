"""Errors of the native core that are no ValueError, MemoryError or OverflowError."""

from __future__ import annotations


class DlcoreError(RuntimeError):
    """A plan that contradicts itself, or something that this machine or build cannot do."""
