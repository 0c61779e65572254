"""Runs a script of the project where Matplotlib, Pillow and Jinja2 cannot be imported: SCRIPT, then its flags."""

import os
import runpy
import sys

PICTURES = "matplotlib", "PIL", "jinja2"


class Refused:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in PICTURES:
            raise AssertionError(f"{name} is imported")


for name in [name for name in sys.modules if name.partition(".")[0] in PICTURES]:
    del sys.modules[name]
sys.meta_path.insert(0, Refused())
script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), script)
runpy.run_path(sys.argv[0], run_name="__main__")
