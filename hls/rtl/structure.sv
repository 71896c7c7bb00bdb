// Parts of an exported layer beside its PEs, that hls/estimate_logic.py and hls/hls_operators.py price by these:
// conversions, and multiplexers over words of memory. All are combinational, as the prices count LUTs alone;
// their pipelines are registers between these functions. For hls/structure_netlists.py.

// An integer as float32, rounded to nearest, ties to even.
module sum_to_float #(
    parameter int BITS = 20
) (
    input  logic signed [BITS-1:0] sum,
    output logic            [31:0] number
);
  localparam int WIDE = BITS < 26 ? 26 : BITS;  // a significand, a bit to round, and one for the rest
  localparam int COUNT_BITS = $clog2(BITS + 1);
  wire sign = sum[BITS-1];
  wire [BITS-1:0] magnitude = sign ? -sum : sum;
  wire [COUNT_BITS-1:0] zeros;
  leading_zeros #(.WIDTH(BITS)) counter (.value(magnitude), .zeros(zeros));
  wire [WIDE-1:0] normal = {magnitude, {(WIDE - BITS) {1'b0}}} << zeros;
  wire [23:0] significand = normal[WIDE-1-:24];
  wire half = normal[WIDE-25];
  wire rest = |normal[WIDE-26:0];
  wire up = half && (rest || significand[0]);
  wire [7:0] exponent = 8'(126 + BITS) - 8'(zeros);
  // a significand that overflows carries into the exponent, which is what its zeros and the next power of two need
  wire [30:0] rounded = {exponent, significand[22:0]} + 31'(up);
  assign number = magnitude == '0 ? '0 : {sign, rounded};
endmodule

// `beat_window` of streams.h: units of UNIT bits out of two beats, from any place of the first on.
module line_window #(
    parameter int UNIT = 32,
    parameter int COUNT = 16,
    parameter int BEAT = 512,
    localparam int PLACES = BEAT / UNIT
) (
    input  logic [        2*BEAT-1:0] beats,
    input  logic [$clog2(PLACES)-1:0] place,
    output logic [    COUNT*UNIT-1:0] units
);
  wire [2*BEAT-1:0] shifted = beats >> (place * UNIT);
  assign units = shifted[COUNT*UNIT-1:0];
endmodule

// One of WAYS codes: what an unpacker has for each lane.
module code_picker #(
    parameter int WAYS = 32,
    parameter int BITS = 4
) (
    input  logic [    WAYS*BITS-1:0] codes,
    input  logic [$clog2(WAYS)-1:0] place,
    output logic [        BITS-1:0] code
);
  wire [BITS-1:0] rows[WAYS];
  genvar way;
  for (way = 0; way < WAYS; way++) begin : ways
    assign rows[way] = codes[way*BITS+:BITS];
  end
  assign code = rows[place];
endmodule
