"""Networks: the selective scan, the Mamba block, tokens, heads and the regressor."""
