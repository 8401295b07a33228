"""What every worker needs and takes long to import: for the server that workers are copies of.

Invariants:
    * Libraries alone: PressPool's own modules ask which device there is.
    * Nothing is imported from the folder that one happens to work in.
    * No copy ever looks for garbage in what is imported: that would take its time, and a memory of
      its own for every page that it marks.
"""

import gc
import sys

sys.path[:] = [place for place in sys.path if place]

gc.disable()  # all of it stays, and looking through it takes a fifth of the time

import flwr.app  # noqa: E402, F401
import opacus  # noqa: E402, F401
import peft  # noqa: E402, F401

gc.freeze()
gc.enable()
