"""Group pairs as stars: each member is a near-duplicate of the representative itself.

Chains are no groups: the first and the last picture of a chain may have nothing in common.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping

Edge = tuple[int, int, float, int]
# The representative, and how a member compares with it: cosine, differing bits of the hash.
Member = tuple[int, float, int]


def stars(edges: Iterable[Edge], known: Mapping[int, Member]) -> dict[int, Member]:
    """Give each content its group.

    A content that is near a known representative joins the nearest one. Of the others, the content
    with the most neighbours becomes a representative, its neighbours become its members, and so on.

    Args:
        edges: Confirmed pairs: two contents, their cosine, and the bits that differ.
        known: The groups of an earlier call, which stay as they are: member → its representative.
            A representative is a member of its own group.

    Returns:
        All groups, the known ones included.
    """
    near = _neighbours(edges)
    groups = dict(known)
    heads = {member[0] for member in known.values()}
    for content in sorted(near.keys() - groups.keys()):
        nearest = [(cosine, -b, bits) for b, (cosine, bits) in near[content].items() if b in heads]
        if nearest:
            cosine, head, bits = max(nearest)
            groups[content] = (-head, cosine, bits)
    free = near.keys() - groups.keys()
    queue = [(-len(near[content].keys() & free), content) for content in free]
    heapq.heapify(queue)
    while queue:
        size, content = heapq.heappop(queue)
        members = near[content].keys() - groups.keys()
        if content in groups or not members:
            continue
        if len(members) < -size:
            heapq.heappush(queue, (-len(members), content))
            continue
        groups[content] = (content, 1.0, 0)
        groups.update({member: (content, *near[content][member]) for member in members})
    return groups


def _neighbours(edges: Iterable[Edge]) -> dict[int, dict[int, tuple[float, int]]]:
    near: defaultdict[int, dict[int, tuple[float, int]]] = defaultdict(dict)
    for a, b, cosine, bits in edges:
        near[a][b] = near[b][a] = (cosine, bits)
    return near
