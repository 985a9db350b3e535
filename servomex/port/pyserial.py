"""pyserial, reliably: other packages, and files of programs, are called ``serial`` too."""

try:
    import serial
    from serial.tools import list_ports

    serial.serial_for_url  # noqa: B018 (which no other module has)
except (ImportError, AttributeError) as _error:
    import importlib.util

    _found = importlib.util.find_spec("serial")
    if _found is None:
        raise
    _place = _found.origin or ", ".join(_found.submodule_search_locations or ())
    raise ImportError(
        f"{_place} is imported as 'serial' and is not pyserial. Rename it if it is yours; if it is the package "
        "'serial', run: python -m pip uninstall serial, then python -m pip install --force-reinstall pyserial"
    ) from _error

__all__ = ["list_ports", "serial"]
