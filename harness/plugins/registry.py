"""Finding methods: built-in ones by file, others by entry point or by a file that the configuration names.

A built-in method is a module of ``harness.methods``; a published one names its module in the entry-point group
``bihm_harness.methods``; the files of the configuration's ``methods`` are made known by :func:`use_files` where
settings are read. Nothing is imported until a method is asked for by name.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from harness import methods
from harness.errors import ConfigError, HarnessError
from harness.plugins.names import wrong_name

ENTRY_POINT_GROUP = "bihm_harness.methods"
INSTANCE = "instance"  # the one hyperparameter of a model that is a copy of a given instance
_modules_beside: dict[str, str] = {}  # module that a method's file imported from its own folder -> that folder
_named_files: dict[str, Path] = {}  # method -> its file, of the settings that were read last
_objects: dict[str, Any] = {}  # method -> a class or an untrained instance that the program made, as in a notebook


def use_files(paths: Iterable[Path]) -> None:
    """Make known the method in each of these files, whose name is the file's; files of an earlier call are forgotten.

    Raises ConfigError for what is not a Python file, and for a name that another method has.
    """
    _named_files.clear()
    for path in (Path(os.path.abspath(each)) for each in paths):
        if path.suffix != ".py" or not path.is_file():
            raise ConfigError(
                f"methods: {path}: expected a Python file, found {'another' if path.exists() else 'none'}"
            )
        if wrong := wrong_name(path.stem):
            raise ConfigError(f"methods: {path}: {wrong}")
        # file systems that do not tell capitals apart have one folder for both
        taken = next((name for name in method_names() if name.casefold() == path.stem.casefold()), None)
        if taken is not None and _named_files.get(taken) != path:
            owner = file_of(taken) or origin(taken)
            raise ConfigError(f"methods: {path}: expected an unused name, found {path.stem!r}, that of {owner}")
        _named_files[path.stem] = path


def use_object(method: Any) -> str:
    """Make a ``Method`` class, or an untrained instance, known under the name that it has, in place of an earlier one.

    The name. Raises ConfigError for what is no method, and for a name that a method of another kind has.
    """
    from harness.method import Method

    cls = method if isinstance(method, type) else type(method)
    if not issubclass(cls, Method):
        raise ConfigError(f"method: expected the name of one, a Method class or an instance, found {method!r}")
    name = getattr(cls, "name", "")
    if wrong := wrong_name(name):
        raise ConfigError(f"method {cls.__qualname__}: {wrong}")
    if name in _names_elsewhere() and method_class(name) is not cls:
        raise ConfigError(f"method {cls.__qualname__}: expected a name of its own, found {name!r}: {origin(name)}")
    _objects[name] = method
    return name


def object_of(name: str) -> Any:
    """The class or instance that ``use_object`` alone made known under this name; None where there is none."""
    made = _objects.get(name)  # asked first: to list what is installed takes ten milliseconds
    return None if made is None or name in _names_elsewhere() else made


def digest_of_object(name: str) -> str:
    """What tells an instance from others of its class: sha256 of its modules and initial weights."""
    instance = _objects[name]
    total = hashlib.sha256(repr(instance).encode())
    for key, tensor in instance.state_dict().items():
        total.update(key.encode() + tensor.detach().cpu().numpy().tobytes())
    return total.hexdigest()


def built_in_names() -> set[str]:
    """Names of the methods that come with the harness."""
    return {module.name for module in pkgutil.iter_modules(methods.__path__)}


def method_names() -> list[str]:
    """Names of all methods that can be used, sorted."""
    return sorted(_names_elsewhere() | set(_objects))


def _names_elsewhere() -> set[str]:
    """Names of the methods that are more than objects of this program."""
    published = {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)}
    return built_in_names() | published | set(_named_files)


def file_of(name: str) -> Path | None:
    """The file of a built-in method or of one that the configuration names; None for others."""
    built_in = (Path(folder) / f"{name}.py" for folder in methods.__path__)
    return next((path for path in built_in if name != "__init__" and path.is_file()), _named_files.get(name))


def entry_point_of(name: str) -> EntryPoint:
    """The entry point that brings a published method; raises ConfigError when there is none of this name."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return entry
    raise ConfigError(f"method: expected one of {', '.join(method_names())}, found {name!r}")


def origin(name: str) -> str:
    """The origin of a method: ``built in``, its file, or its package. Raises ConfigError when there is none."""
    if name in built_in_names():
        return "built in"
    if name in _named_files:
        return str(_named_files[name])
    if name in _objects:
        return "made by this program"
    entry = entry_point_of(name)
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def method_class(name: str) -> type:
    """The ``Method`` subclass of this name; a built-in one cannot be replaced by an entry point.

    Raises ConfigError when there is none, and when the module does not hold exactly one of that name; HarnessError for
    a module that ends the process instead of being imported.
    """
    try:
        if name in built_in_names():
            return _only_method(importlib.import_module(f"{methods.__name__}.{name}"), name)
        if name in _named_files:
            return _only_method(module_in(_named_files[name]), name)
        if name in _objects:
            return _objects[name] if isinstance(_objects[name], type) else type(_objects[name])
        loaded = entry_point_of(name).load()
    except SystemExit as error:
        found = f"sys.exit({error.code!r})"
        raise HarnessError(f"method {name}: expected a module that can be imported, found {found}") from error
    return _only_method(loaded, name) if isinstance(loaded, ModuleType) else loaded


@cache
def module_in(path: Path, kind: str = "method") -> ModuleType:
    """The module in a file, which is run once; it is not to be found under the name that other modules could have.

    While it runs, it finds modules that lie beside it, under names that nothing else has.
    """
    spec = importlib.util.spec_from_file_location(f"bihm_harness_{kind}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # classes look up where they were defined
    folder = str(path.parent)
    _forget_modules_beside_others(folder)
    known = set(sys.modules)
    sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                _modules_beside[name] = folder
    return module


def _forget_modules_beside_others(folder: str) -> None:
    """Two folders may each have a ``helpers.py``: a method that was loaded keeps those that it has."""
    for name, home in list(_modules_beside.items()):
        if home != folder:
            sys.modules.pop(name, None)
            del _modules_beside[name]


def _only_method(module: ModuleType, name: str) -> type:
    from harness.method import Method

    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    names = [getattr(cls, "name", cls.__name__) for cls in found]
    if names != [name]:
        raise ConfigError(f"{module.__file__}: expected one Method with name = {name!r}, found {names}")
    return found[0]


def hyperparameter_schema(cls: type) -> dict[str, Any]:
    """JSON schema of the keyword arguments of a method after ``n_visible``, from its signature."""
    from harness.schema import arguments_schema  # takes longer to import than all the rest

    return arguments_schema(cls.__init__, n_given=2)


def build(name: str, n_visible: int, hyperparameters: dict[str, Any]) -> Any:
    """An untrained method; raises ConfigError that names an unknown, missing or ill-typed hyperparameter."""
    from harness.schema import check

    if set(hyperparameters) == {INSTANCE} and not isinstance(_objects.get(name, type), type):
        return _copy_of(_objects[name], n_visible)
    cls = method_class(name)
    check(hyperparameters, hyperparameter_schema(cls), f"model of method {name}")
    return cls(n_visible, **hyperparameters)


def _copy_of(instance: Any, n_visible: int) -> Any:
    if instance.n_visible != n_visible:
        expected = f"an instance for {n_visible} columns"
        raise ConfigError(f"method {instance.name}: expected {expected}, found one for {instance.n_visible}")
    return copy.deepcopy(instance)
