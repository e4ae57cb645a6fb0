"""Mamba blocks to compare with: published ones for the CPU, and a rewrite of mamba-ssm's reference equations.

Each gets the parameters of our block, so that all compute the same function; ``block.py`` checks that.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.models.mamba import Mamba
from popularity.models.mamba2 import Mamba2


def _copy_parameters(to: nn.Module, ours: Mamba | Mamba2) -> nn.Module:
    parameters = ours.state_dict()
    with torch.no_grad():
        for name, parameter in to.named_parameters():
            parameter.copy_(parameters[name.replace("_fwd", "")])
    return to


class ReferenceBlock(Mamba):
    """The equations of mamba-ssm's ``selective_scan_ref`` in its block: all decays at once, then a loop over tokens."""

    def forward(self, u: Tensor) -> Tensor:
        """(batch, length, d_model) -> the same."""
        length = u.shape[1]
        x, z = self.in_proj(u).transpose(1, 2).chunk(2, 1)
        weight, bias = self.conv1d.weight, self.conv1d.bias
        x = F.silu(F.conv1d(x, weight, bias, padding=self.d_conv - 1, groups=self.d_inner)[..., :length])
        factors = self.x_proj(x.transpose(1, 2))
        delta, B, C = factors.split([self.dt_rank, self.d_state, self.d_state], -1)
        delta = F.softplus(self.dt_proj(delta)).transpose(1, 2)
        decays = torch.exp(torch.einsum("bdl,dn->bdln", delta, -torch.exp(self.A_log)))
        added = torch.einsum("bdl,bln,bdl->bdln", delta, B, x)
        h = x.new_zeros(x.shape[0], self.d_inner, self.d_state)
        ys = []
        for t in range(length):
            h = decays[:, :, t] * h + added[:, :, t]
            ys.append(torch.einsum("bdn,bn->bd", h, C[:, t]))
        y = torch.stack(ys, 2) + x * self.D[:, None]
        return self.out_proj((y * F.silu(z)).transpose(1, 2))


def reference(ours: Mamba) -> nn.Module:
    """mamba-ssm's reference equations."""
    return _copy_parameters(ReferenceBlock(ours.d_model, ours.d_state, ours.d_conv), ours)


def mambapy(ours: Mamba) -> nn.Module:
    """mambapy: a parallel scan in PyTorch."""
    from mambapy.mamba import MambaBlock, MambaConfig

    config = MambaConfig(d_model=ours.d_model, n_layers=1, d_state=ours.d_state, d_conv=ours.d_conv, pscan=True)
    return _copy_parameters(MambaBlock(config), ours)


def transformers(ours: Mamba) -> nn.Module:
    """Transformers' mixer, on the path that it takes on a CPU."""
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    config = MambaConfig(
        hidden_size=ours.d_model, state_size=ours.d_state, conv_kernel=ours.d_conv, expand=2, num_hidden_layers=1,
        time_step_rank=ours.dt_rank,
    )  # fmt: skip
    return _copy_parameters(MambaMixer(config, 0), ours)


def transformers_mamba2(ours: Mamba2) -> nn.Module:
    """Transformers' Mamba-2 mixer with its default chunks, on the path that it takes on a CPU."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(
        hidden_size=ours.d_model, state_size=ours.d_state, conv_kernel=ours.d_conv, num_hidden_layers=1,
        expand=ours.d_inner // ours.d_model, num_heads=ours.nheads, head_dim=ours.headdim, n_groups=ours.ngroups,
    )  # fmt: skip
    return _copy_parameters(Mamba2Mixer(config, 0), ours)


def mamba_ssm_mamba2(ours: Mamba2) -> nn.Module:
    """mamba-ssm's block, where it imports; its kernels are Triton's, which need a GPU."""
    from mamba_ssm import Mamba2 as Theirs

    if not torch.cuda.is_available():
        raise ImportError("its kernels need a GPU")
    sizes = {"d_state": ours.d_state, "d_conv": ours.d_conv, "headdim": ours.headdim, "ngroups": ours.ngroups}
    return _copy_parameters(Theirs(ours.d_model, expand=ours.d_inner // ours.d_model, **sizes), ours)


def deeptab(ours: Mamba) -> nn.Module:
    """DeepTab's block, which Mambular is made of."""
    from deeptab.nn.blocks.mamba import MambaBlock

    block = MambaBlock(
        d_model=ours.d_model, expand_factor=2, d_conv=ours.d_conv, d_state=ours.d_state, dt_rank=ours.dt_rank,
        dropout=0.0, activation=F.silu,
    )  # fmt: skip
    return _copy_parameters(block, ours)


PEERS: dict[str, Callable[[Mamba], nn.Module]] = {
    "mambapy": mambapy,
    "transformers": transformers,
    "DeepTab": deeptab,
    "selective_scan_ref": reference,
}
MAMBA2_PEERS: dict[str, Callable[[Mamba2], nn.Module]] = {
    "transformers": transformers_mamba2,
    "mamba-ssm": mamba_ssm_mamba2,
}
