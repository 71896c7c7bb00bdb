"""Hardware back end: SystemVerilog twins of the PEs, their references, and what they take after synthesis."""
