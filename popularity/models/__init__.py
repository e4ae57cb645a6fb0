"""Networks: the selective scan, Mamba blocks and their kernels, tokens, known songs, heads and calibration."""
