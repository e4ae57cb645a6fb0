"""How the members of one model differ."""

from __future__ import annotations

from dataclasses import replace

from popularity.models.history import Plan


def member_plans(first: Plan, members: int) -> list[Plan]:
    """Plans of a model's members: the first as it was asked for, the others changed in one respect or two.

    Args:
        first: of the first member.
        members: how many.
    """
    others = [first]
    plans = [others[i % len(others)] for i in range(members)]
    return [replace(plan) for plan in plans]
