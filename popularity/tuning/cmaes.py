"""CMA-ES that runs no code from a study: Optuna keeps its state as a pickle among the attributes of trials."""

from __future__ import annotations

import io
import pickle
import re
from typing import Any

from optuna.samplers import CmaEsSampler

from popularity.errors import InputError

#: All that the state consists of: the optimiser and arrays of numbers.
_ALLOWED = re.compile(r"cmaes\._cma\.CMA|numpy\.(ndarray|dtype)|numpy\._?core\.multiarray\.(_reconstruct|scalar)")


class CheckedCmaEsSampler(CmaEsSampler):
    """Optuna's sampler; a state that holds anything but an optimiser and arrays is refused before it is loaded."""

    # private: Optuna has no public way to look at the state, put together here, before it loads it
    def _concat_optimizer_attrs(self, optimizer_attrs: dict[str, str]) -> str:
        try:
            state = super()._concat_optimizer_attrs(optimizer_attrs)
            found = _Reader(io.BytesIO(bytes.fromhex(state))).load()
        except Exception as error:  # a damaged pickle raises whatever the damage leads to
            reason = str(error) if isinstance(error, pickle.UnpicklingError) else "it is damaged"
            raise InputError(f"--storage: cannot use the state of CMA-ES: {reason}") from error
        if type(found).__name__ != "CMA":
            raise InputError(f"--storage: expected the state of CMA-ES, got a {type(found).__name__}")
        return state


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if not _ALLOWED.fullmatch(f"{module}.{name}"):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not part of it")
        return super().find_class(module, name)
