"""Turns a quantized layer and an accelerator into C++ and RTL (not yet written)."""
