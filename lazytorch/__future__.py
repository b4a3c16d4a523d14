"""What PyTorch means to make the default one day: how modules are converted."""

from __future__ import annotations

_overwrite_module_params_on_conversion = False
_swap_module_params_on_conversion = False


def set_overwrite_module_params_on_conversion(value: bool) -> None:
    """Have ``module.to()`` and its kin make new parameters instead of keeping the objects.

    An optimizer that holds the old ones no longer trains the module.
    """
    global _overwrite_module_params_on_conversion
    _overwrite_module_params_on_conversion = value


def get_overwrite_module_params_on_conversion() -> bool:
    """Whether a converted module gets new parameters; False at first."""
    return _overwrite_module_params_on_conversion


def set_swap_module_params_on_conversion(value: bool) -> None:
    """Have conversions put new content into the same Parameter objects, whatever their types.

    That is how they always are done here: it only takes precedence over
    :func:`set_overwrite_module_params_on_conversion`.
    """
    global _swap_module_params_on_conversion
    _swap_module_params_on_conversion = value


def get_swap_module_params_on_conversion() -> bool:
    """What :func:`set_swap_module_params_on_conversion` was given; False at first."""
    return _swap_module_params_on_conversion
