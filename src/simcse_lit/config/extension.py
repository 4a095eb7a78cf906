"""Builds the class or function that a configuration node names in `_target_`, from simcse-lit or any other package."""

from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from simcse_lit.config.as_typed import literal
from simcse_lit.errors import UserError, did_you_mean

OF_HYDRA = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


def build(node: Mapping[str, Any], key: str, **more: Any) -> Any:
    """Call the `_target_` of `node` with its other keys as arguments, after building the nodes inside it.

    Lists and groups are passed as Python containers, unless a node sets `_convert_`.

    Args:
        node: part of a configuration whose interpolations are resolved.
        key: dotted key of the node, for messages.
        more: further arguments that are not in the configuration.

    Raises:
        UserError: the class or function does not exist, or does not take these arguments.
    """
    _check_named(node, key)
    _check(node, key, more)
    return _instantiated(node, key, **more)


def prepare(node: Mapping[str, Any], key: str, given: Sequence[str]) -> Callable[..., Any]:
    """Return the `_target_` of `node` with its other keys bound, to be called later with the arguments `given`.

    Args:
        node: part of a configuration whose interpolations are resolved.
        key: dotted key of the node, for messages.
        given: names of the arguments that the later call adds.

    Raises:
        UserError: the class or function does not exist, or does not take these arguments.
    """
    _check_named(node, key)
    _check(node, key, given)
    target = str(node["_target_"])
    parameters = signature(get_object(target)).parameters.values()
    names = {parameter.name for parameter in parameters}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        names |= set(given)
    if lacks := [name for name in given if name not in names]:
        raise UserError(
            f"{key}._target_={target}: takes no argument {' and no argument '.join(lacks)}, but is called with "
            f"{', '.join(given)}.\nWrap it in a function that takes them."
        )
    return cast(Callable[..., Any], _instantiated({**node, "_partial_": True}, key))


def _instantiated(node: Mapping[str, Any], key: str, **more: Any) -> Any:
    try:
        return instantiate({"_convert_": "all", **literal(node)}, **more)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, (TypeError, ValueError)):
            raise UserError(f"{key}: {node['_target_']}: {cause}") from error
        raise


def _check_named(node: Mapping[str, Any], key: str) -> None:
    if "_target_" not in node:
        raise UserError(f"{key}._target_: has no value. Name a class: {key}._target_=PACKAGE.CLASS")


def _check(node: Any, key: str, more: Collection[str]) -> None:
    """Check that every `_target_` of a node can be imported and takes the given arguments."""
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        _check(value, f"{key}.{name}", ())
    if "_target_" not in node:
        return
    target = str(node["_target_"])
    try:
        parameters = signature(get_object(target)).parameters
    except Exception as error:  # importing another module may raise anything
        raise UserError(f"{key}._target_={target}: cannot be imported: {error.__cause__ or error}") from error
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    taken = [name for name in parameters if name not in more]
    for name in node:
        if name not in taken and name not in OF_HYDRA:
            raise UserError(
                f"{key}.{name}: {target.rpartition('.')[2]} takes no such argument.{did_you_mean(name, taken)}\n"
                f"It takes: {', '.join(taken) or 'none'}."
            )
    needed = [name for name in taken if parameters[name].default is Parameter.empty and name not in node]
    needed = [name for name in needed if parameters[name].kind is not Parameter.VAR_POSITIONAL]
    if needed and not node.get("_partial_") and "_args_" not in node:
        raise UserError(f"{key}.{needed[0]}: has no value, but {target.rpartition('.')[2]} needs one.")
