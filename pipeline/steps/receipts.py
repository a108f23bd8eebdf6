"""Tell from receipts and their parts which shards are done, and which to do again."""

from __future__ import annotations

import logging

from pipeline.state.run import Run
from pipeline.tables import Table
from transforms.parts.write import Part, Receipt
from transforms.storage import Storage

_LOG = logging.getLogger(__name__)


def missing_shards(run: Run, output: Storage, features: Table) -> list[str]:
    """Return the shards without a receipt, or with one whose part is gone."""
    done = {receipt.shard for receipt in forget_lost_parts(run, output, features)}
    return [shard for shard in run.shards if shard not in done]


def forget_lost_parts(run: Run, output: Storage, features: Table) -> list[Receipt]:
    """Return a run's receipts; delete those whose part is gone, to do their shards again."""
    receipts = run.receipts(output)
    sizes = features.sizes() if receipts else {}
    for receipt in receipts:
        if is_lost(receipt.part, sizes):
            _LOG.warning("the part of %s is missing; the shard is done again", receipt.shard)
            run.forget(receipt, output)
    return [receipt for receipt in receipts if not is_lost(receipt.part, sizes)]


def is_lost(part: Part | None, sizes: dict[str, int]) -> bool:
    """Tell whether a part is gone, or has another size than its receipt says."""
    return part is not None and sizes.get(part.path) != part.size
