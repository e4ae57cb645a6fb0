"""Judging: baselines and metrics on identical rows."""
