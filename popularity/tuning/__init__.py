"""Hyper-parameter search: many fits, one study, any number of processes."""
