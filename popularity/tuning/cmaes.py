"""CMA-ES that runs no code from a study: Optuna keeps its state as a pickle among the attributes of trials."""

from __future__ import annotations

import io
import pickle
from typing import Any

from optuna.samplers import CmaEsSampler
from optuna.trial import FrozenTrial

from popularity.errors import InputError

#: All that the state consists of: the optimiser and arrays of numbers.
_ALLOWED = frozenset(
    {
        ("cmaes._cma", "CMA"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    }
)


class CheckedCmaEsSampler(CmaEsSampler):
    """Optuna's sampler; a state that holds anything but an optimiser and arrays is refused before it is loaded."""

    # private: Optuna has no public way to say how the state is read
    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            parts = {
                name: part for name, part in trial.system_attrs.items() if name.startswith(self._attr_key_optimizer)
            }
            if parts:
                return _load(trial.number, parts, self._attr_key_optimizer)
        return None


def _load(trial: int, parts: dict[str, Any], name: str) -> Any:
    try:
        state = bytes.fromhex("".join(parts[f"{name}:{number}"] for number in range(len(parts))))
        found = _Reader(io.BytesIO(state)).load()
    except Exception as error:  # a damaged pickle raises whatever the damage leads to
        reason = str(error) if isinstance(error, pickle.UnpicklingError) else "it is damaged"
        raise InputError(f"--storage: trial {trial}: cannot use the state of CMA-ES: {reason}") from error
    if type(found).__name__ != "CMA":
        raise InputError(f"--storage: trial {trial}: expected the state of CMA-ES, got a {type(found).__name__}")
    return found


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not part of it")
        return super().find_class(module, name)
