// A float32 divider, for hls/structure_netlists.py: what a layer's scales are divided by. Combinational; a pipeline has
// registers between its rows.

// The quotient of two normal float32 numbers, to nearest even, where it is normal too. Non-restoring: a row of 25 bits
// for each of the quotient's 26 bits, which adds or subtracts.
module float_divider (
    input  logic [31:0] dividend,
    input  logic [31:0] divisor,
    output logic [31:0] quotient
);
  localparam int ROWS = 26;  // of which the first may be zero; then 24, and one to round
  wire [24:0] by = {1'b0, 1'b1, divisor[22:0]};
  wire signed [25:0] rest[ROWS+1];
  wire [ROWS-1:0] bits;
  assign rest[0] = {2'b0, 1'b1, dividend[22:0]} - {1'b0, by};
  genvar row;
  for (row = 0; row < ROWS; row++) begin : rows
    assign bits[ROWS-1-row] = !rest[row][25];
    // twice the remainder, and the divisor added or taken off: one carry chain, whose lowest bit carries in
    wire flip = bits[ROWS-1-row];
    wire [26:0] both = {rest[row][24:0], 1'b0, 1'b1} + {{26{flip}} ^ {1'b0, by}, flip};
    assign rest[row+1] = both[26:1];
  end
  // the exact remainder of the last row is zero, or minus the divisor, where the quotient is exact
  wire [25:0] last = rest[ROWS][25] ? rest[ROWS] + {by, 1'b0} : rest[ROWS];
  wire sticky = |last;
  wire first = bits[ROWS-1];  // whether the quotient of significands is 1 or more
  wire [23:0] significand = first ? bits[ROWS-1:2] : bits[ROWS-2:1];
  wire half = first ? bits[1] : bits[0];
  wire rest_bits = first ? bits[0] || sticky : sticky;
  wire up = half && (rest_bits || significand[0]);
  wire [7:0] exponent = dividend[30:23] - divisor[30:23] + 8'd126 + 8'(first);
  wire [30:0] rounded = {exponent, significand[22:0]} + 31'(up);
  assign quotient = {dividend[31] ^ divisor[31], rounded};
endmodule
