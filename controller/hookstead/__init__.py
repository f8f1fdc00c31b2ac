"""Hookstead: webhook delivery for platform teams who keep everything in Git."""

from __future__ import annotations

__version__ = "0.1.0"
