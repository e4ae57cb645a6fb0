"""CMA-ES that runs no code from a study: Optuna keeps its state as a pickle among the attributes of trials."""

from __future__ import annotations

import io
import pickle
import re
from typing import Any

from optuna.samplers import CmaEsSampler
from optuna.trial import FrozenTrial

from popularity.errors import InputError

#: All that the state consists of: the optimiser and arrays of numbers.
_ALLOWED = re.compile(r"cmaes\._cma\.CMA|numpy\.(ndarray|dtype)|numpy\._?core\.multiarray\.(_reconstruct|scalar)")


class CheckedCmaEsSampler(CmaEsSampler):
    """Optuna's sampler; a state that holds anything but an optimiser and arrays is refused before it is loaded."""

    # private: Optuna has no public way to say how the state is read
    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            name = self._attr_key_optimizer
            parts = {key: part for key, part in trial.system_attrs.items() if key.startswith(name)}
            if not parts:
                continue
            try:
                return _Reader(io.BytesIO(bytes.fromhex(self._concat_optimizer_attrs(parts)))).load()
            except Exception as error:  # a damaged pickle raises whatever the damage leads to
                reason = str(error) if isinstance(error, pickle.UnpicklingError) else "it is damaged"
                told = f"--storage: trial {trial.number}: cannot use the state of CMA-ES: {reason}"
                raise InputError(told) from error
        return None


class _Reader(pickle.Unpickler):
    def load(self) -> Any:
        found = super().load()
        if type(found).__name__ != "CMA":
            raise pickle.UnpicklingError(f"expected an optimiser, got a {type(found).__name__}")
        return found

    def find_class(self, module: str, name: str) -> Any:
        if not _ALLOWED.fullmatch(f"{module}.{name}"):
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not part of it")
        return super().find_class(module, name)
