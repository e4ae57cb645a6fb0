"""How the members of one model differ."""

from __future__ import annotations

from dataclasses import replace

from popularity.models.history import BlockName, Plan


def member_plans(first: Plan, members: int) -> list[Plan]:
    """Plans of a model's members: the first as asked for, the others each changed in a respect or two, in turn.

    The second is wider and reads in the other number of directions; the third narrower and sees how known songs differ
    from the one asked about; the fourth has the other kind of block. From the fifth on they repeat, and differ in what
    all members differ in: initial weights and drawn histories. Without a block there is only width to differ in.

    Args:
        first: of the first member.
        members: how many.
    """
    heads = 8  # widths stay multiples of it: a Mamba-2 block of expansion 2 has heads of 16 channels
    wider = replace(first, width=first.width + max(heads, first.width // 3 // heads * heads))
    narrower = replace(first, width=max(heads, first.width * 2 // 3 // heads * heads))
    other: dict[BlockName, BlockName] = {"mamba": "mamba2", "mamba2": "mamba", "none": "none"}
    turns = [
        first,
        replace(wider, bidirectional=not first.bidirectional),
        replace(narrower, difference=True),
        replace(first, block=other[first.block]),
    ]
    return [turns[index % len(turns)] for index in range(members)]
