"""A line of succession for programs of which exactly one copy may run.

The public names are imported when they are first used, so that a probe does not pay for a database library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.5.0"

if TYPE_CHECKING:
    from heirflow.election.timings import Timings, UnsafeTimings
    from heirflow.embed.election import Election, Standing
    from heirflow.embed.lead import Lead
    from heirflow.errors import ConfigError, HeirflowError, LostLead
    from heirflow.stores.base import StoreMisfit, StoreUnavailable

__all__ = [
    "ConfigError",
    "Election",
    "HeirflowError",
    "Lead",
    "LostLead",
    "Standing",
    "StoreMisfit",
    "StoreUnavailable",
    "Timings",
    "UnsafeTimings",
]

_HOMES = {
    "ConfigError": "errors",
    "Election": "embed.election",
    "HeirflowError": "errors",
    "Lead": "embed.lead",
    "LostLead": "errors",
    "Standing": "embed.election",
    "StoreMisfit": "stores.base",
    "StoreUnavailable": "stores.base",
    "Timings": "election.timings",
    "UnsafeTimings": "election.timings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'heirflow' has no attribute {name!r}")
    return getattr(import_module(f"heirflow.{_HOMES[name]}"), name)
