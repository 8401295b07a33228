"""What every worker needs and takes long to import: for the server that workers are copies of.

Invariants:
    * Libraries alone: PressPool's own modules ask which device there is.
    * Nothing is imported from the folder that one happens to work in.
"""

import sys

sys.path[:] = [place for place in sys.path if place]

import flwr.app  # noqa: E402, F401
import opacus  # noqa: E402, F401
import peft  # noqa: E402, F401
