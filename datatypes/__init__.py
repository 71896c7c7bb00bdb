"""The vocabulary: what a code means, how a layer is encoded, and its bits counted honestly.

Import from the home file (``from datatypes.catalog import FP4``); this file loads nothing, so that the modules
which must not load torch (``format``, ``catalog``, ``granularity``, ``layer_config``) stay light.
"""
