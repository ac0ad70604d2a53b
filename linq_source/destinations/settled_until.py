"""Up to which instant a pipeline's destination is settled.

It is kept beside the pipeline's state. What was settled before a package was extracted goes into
the state with that package, too, for a worker that starts with an empty disk.
"""

from __future__ import annotations

from datetime import datetime

import dlt

from linq_source.instants import DAY_US, to_us
from linq_source.settings import Shard
from linq_source.state_keys import SETTLED, SYNCED_AT_US, source_state

MAINTENANCE_US = DAY_US // 4
_LOCAL = "linq_settled_us"


def settled_us(pipeline: dlt.Pipeline, shard: Shard | None = None) -> int:
    """Return up to which instant the shard's chats are settled; without a shard, all chats.

    0 where nobody remembers it: then all is looked at again.
    """
    source = source_state(pipeline.state)
    stored_us = int(source.get(SETTLED, {}).get(str(shard), 0))
    return max(_local_us(pipeline, shard), stored_us)


def has_settled_before(pipeline: dlt.Pipeline, shard: Shard | None = None) -> bool:
    """Return whether this machine settled the pipeline's destination before."""
    return _local_us(pipeline, shard) > 0


def is_maintenance_due(before_us: int, after_us: int) -> bool:
    """Return whether a settling is the first of a quarter of a day (UTC).

    So much may come together before files are put together and old versions dropped.
    """
    return before_us // MAINTENANCE_US < after_us // MAINTENANCE_US


def remember_settled(pipeline: dlt.Pipeline, newest: datetime, shard: Shard | None = None) -> None:
    """Note that all up to an instant is settled."""
    # Another shard's clock may be ahead: what this pipeline loads later must not look settled.
    own_us = int(source_state(pipeline.state).get(SYNCED_AT_US, 0))
    pipeline.set_local_state_val(_key(shard), min(to_us(newest), own_us))


def _local_us(pipeline: dlt.Pipeline, shard: Shard | None) -> int:
    try:
        return int(pipeline.get_local_state_val(_key(shard)))
    except KeyError:
        return 0


def _key(shard: Shard | None) -> str:
    return _LOCAL if shard is None else f"{_LOCAL}_{shard}"
