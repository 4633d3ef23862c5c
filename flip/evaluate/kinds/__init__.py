"""Find what measures each kind of test set (flip/config/kinds): the file of its name in this folder.

`measure(trial)` gives outcomes per test image by what follows the set's name in that of the metric, none of what the
model cannot do. `show(trial)`, where there is anything to see, gives a sheet's name, the sheet (WebP) and facts.
"""

from importlib import import_module
from pkgutil import iter_modules

_found = {one.name: vars(import_module(f"{__name__}.{one.name}")) for one in iter_modules(__path__)}
MEASURE = {name: content["measure"] for name, content in _found.items()}
SHOW = {name: content["show"] for name, content in _found.items() if "show" in content}
