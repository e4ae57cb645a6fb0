"""The objects that a config describes, built by its parser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, instantiate_class

from popularity.errors import InputError, one_line
from popularity.training.module import PopularityModule


@contextmanager
def missing_packages_named() -> Iterator[None]:
    """Turn the failure to load a class of the config, such as a logger's, into one line that names the package.

    Raises:
        InputError: a package that is not installed, or a class of Lightning that does not take its arguments.
    """
    try:
        yield
    except (ModuleNotFoundError, ValueError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ModuleNotFoundError | MisconfigurationException):
            cause = cause.__cause__  # jsonargparse raises errors of its own from it
        if cause is None or str(getattr(cause, "name", None) or "").startswith("popularity"):
            raise
        raise InputError(f"a class that the config names cannot be loaded: {one_line(str(cause))}") from error


def instantiate(parser: LightningArgumentParser, config: Namespace) -> Namespace:
    """Build the objects that a config describes; module and data remember their part of it.

    Raises:
        InputError: a package that the config names is not installed.
    """
    with missing_packages_named():
        built: Namespace = parser.instantiate_classes(config)
    remember(config, built)
    if built.get("optimizer"):
        use_optimizer(built.model, built.optimizer, built.get("lr_scheduler"))
    return built


def remember(config: Namespace, built: Namespace) -> None:
    """Store the config of module and data as their hyper-parameters, in plain Python, as checkpoints need them."""
    model = {key: value for key, value in config.model.as_dict().items() if key not in ("inputs", "compile_network")}
    built.model.save_hyperparameters(model, logger=False)
    built.data.save_hyperparameters(config.data.as_dict(), logger=False)


def use_optimizer(module: PopularityModule, optimizer: Any, scheduler: Any) -> None:
    """Train with the optimiser and scheduler of ``--optimizer`` and ``--lr_scheduler`` instead of the module's own."""
    made = instantiate_class(module.parameters(), optimizer)
    schedule = instantiate_class(made, scheduler) if scheduler else None

    def configure_optimizers(module: PopularityModule) -> Any:
        return LightningCLI.configure_optimizers(module, made, schedule)

    module.configure_optimizers = MethodType(configure_optimizers, module)  # type: ignore[method-assign]
