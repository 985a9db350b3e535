"""What PyInstaller cannot see: modules that are imported by name, when they are wanted, and files of views."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

_UNUSED = ("servomex.testing", "servomex._pyinstaller")
_SCHEMES = ("alt", "hwgrep", "loop", "rfc2217", "socket", "spy")

hiddenimports = collect_submodules("servomex", filter=lambda name: not name.startswith(_UNUSED))
# pyserial finds the handler of a URL by the name of its scheme.
hiddenimports += [f"serial.urlhandler.protocol_{scheme}" for scheme in _SCHEMES]
datas = collect_data_files("servomex", includes=["views/assets/*", "views/web/static/*"])
# They are large, and few programs need them: one that does imports them itself.
excludedimports = [
    "matplotlib",
    "paho",
    "pandas",
    "prometheus_client",
    "psycopg",
    "pyarrow",
    "starlette",
    "uvicorn",
]
