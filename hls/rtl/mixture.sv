// Weights of several formats of equal width, one of which `selector` picks for a group (BitMoD's special values, any
// other candidates): the tables of all candidates beside one another, in one unit.

// entry[lane] = entry of code[lane] in the selected candidate's table.
module mixture_table #(
    parameter int CODE_BITS = 4,
    parameter int SELECTOR_BITS = 2,
    parameter int ENTRY_BITS = 6,
    parameter int LANES = 1,
    // entry of code c of candidate s at [(s * 2**CODE_BITS + c) * ENTRY_BITS +: ENTRY_BITS]
    parameter logic [ENTRY_BITS*2**(CODE_BITS+SELECTOR_BITS)-1:0] TABLE = '0
) (
    input  logic [    SELECTOR_BITS-1:0] selector,
    input  logic [  LANES*CODE_BITS-1:0] code,
    output logic [ LANES*ENTRY_BITS-1:0] entry
);
  genvar lane;
  for (lane = 0; lane < LANES; lane++) begin : lanes
    select_row #(.NUMBER_BITS(CODE_BITS + SELECTOR_BITS), .WIDTH(ENTRY_BITS)) select (
        .rows(TABLE),
        .number({selector, code[lane*CODE_BITS+:CODE_BITS]}),
        .row(entry[lane*ENTRY_BITS+:ENTRY_BITS])
    );
  end
endmodule

// Integer activations: dot product of LANES into one integer accumulator, as int_dot.
module mixture_dot #(
    parameter int CODE_BITS = 4,
    parameter int SELECTOR_BITS = 2,
    parameter int ENTRY_BITS = 6,
    parameter int ACTIVATION_BITS = 8,
    parameter int LANES = 1,
    parameter logic [ENTRY_BITS*2**(CODE_BITS+SELECTOR_BITS)-1:0] TABLE = '0,
    parameter int ACCUMULATOR_BITS = ENTRY_BITS + ACTIVATION_BITS + 10
) (
    input  logic                               clk,
    input  logic                               clear,
    input  logic           [SELECTOR_BITS-1:0] selector,
    input  logic         [LANES*CODE_BITS-1:0] weight,
    input  logic   [LANES*ACTIVATION_BITS-1:0] activation,
    output logic signed [ACCUMULATOR_BITS-1:0] accumulator
);
  wire [LANES*ENTRY_BITS-1:0] entry;
  mixture_table #(
      .CODE_BITS(CODE_BITS), .SELECTOR_BITS(SELECTOR_BITS), .ENTRY_BITS(ENTRY_BITS), .LANES(LANES), .TABLE(TABLE)
  ) table_ (
      .selector(selector), .code(weight), .entry(entry)
  );
  int_dot #(
      .WEIGHT_BITS(ENTRY_BITS), .ACTIVATION_BITS(ACTIVATION_BITS), .LANES(LANES), .ACCUMULATOR_BITS(ACCUMULATOR_BITS)
  ) dot (
      .clk(clk), .clear(clear), .weight(entry), .activation(activation), .accumulator(accumulator)
  );
endmodule

// FP16 activations, one lane into an FP32-like accumulator: the entry is multiplied as an integer, as float_int_mac does
// it, and counts in units of 2**UNIT_EXPONENT.
module mixture_float_mac #(
    parameter int CODE_BITS = 4,
    parameter int SELECTOR_BITS = 2,
    parameter int ENTRY_BITS = 6,
    parameter logic [ENTRY_BITS*2**(CODE_BITS+SELECTOR_BITS)-1:0] TABLE = '0,
    parameter int UNIT_EXPONENT = -1,
    parameter int ACCUMULATOR_EXPONENT_BITS = 8,
    parameter int ACCUMULATOR_MANTISSA_BITS = 23
) (
    input  logic                                                         clk,
    input  logic                                                         clear,
    input  logic [                                       SELECTOR_BITS-1:0] selector,
    input  logic [                                           CODE_BITS-1:0] weight,
    input  logic [                                                    15:0] activation,
    output logic [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] accumulator
);
  localparam int OFFSET = UNIT_EXPONENT + (2 - 2**4 - 10)
                        - (2 - 2**(ACCUMULATOR_EXPONENT_BITS - 1) - ACCUMULATOR_MANTISSA_BITS);
  localparam int SHIFT_BITS = (ACCUMULATOR_EXPONENT_BITS > 5 ? ACCUMULATOR_EXPONENT_BITS : 5) + 3;
  wire signed [ENTRY_BITS-1:0] entry;
  mixture_table #(.CODE_BITS(CODE_BITS), .SELECTOR_BITS(SELECTOR_BITS), .ENTRY_BITS(ENTRY_BITS), .TABLE(TABLE)) table_ (
      .selector(selector), .code(weight), .entry(entry)
  );
  wire activation_sign;
  wire [10:0] significand;
  wire [4:0] activation_shift;
  minifloat_decode #(.EXPONENT_BITS(5), .MANTISSA_BITS(10)) decode
      (.code(activation), .sign(activation_sign), .significand(significand), .shift(activation_shift));
  wire [ENTRY_BITS-1:0] absolute = entry[ENTRY_BITS-1] ? -entry : entry;
  wire [ENTRY_BITS+10:0] magnitude = absolute * significand;
  wire signed [SHIFT_BITS-1:0] shift = SHIFT_BITS'($signed({1'b0, activation_shift})) + SHIFT_BITS'(OFFSET);
  wire [ACCUMULATOR_EXPONENT_BITS+ACCUMULATOR_MANTISSA_BITS:0] next;
  float_accumulate #(
      .MAGNITUDE_BITS(ENTRY_BITS + 11),
      .SHIFT_BITS(SHIFT_BITS),
      .EXPONENT_BITS(ACCUMULATOR_EXPONENT_BITS),
      .MANTISSA_BITS(ACCUMULATOR_MANTISSA_BITS)
  ) adder (
      .accumulator(clear ? '0 : accumulator),
      .sign(entry[ENTRY_BITS-1] ^ activation_sign),
      .magnitude(magnitude),
      .shift(shift),
      .next(next)
  );
  always_ff @(posedge clk) accumulator <= next;
endmodule
